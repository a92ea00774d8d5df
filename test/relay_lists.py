"""A Relay module of lists: data types, match, recursion and type parameters."""

HEAD = '#[version = "0.0.5"]\n'
LIST = "type List[A] {\n  Cons(A, List[A]),\n  Nil,\n}\n"
LISTS = (
    HEAD
    + LIST
    + """
type Option[A] {
  Some(A),
  None_,
}

def @length[A](%xs: List[A]) -> int32 {
  match (%xs) {
    Cons(_, %rest) => { add(1, @length(%rest)) },
    Nil => { 0 },
  }
}

def @map[A, B](%f: fn (A) -> B, %xs: List[A]) -> List[B] {
  match (%xs) {
    Cons(%x, %rest) => { Cons(%f(%x), @map(%f, %rest)) },
    Nil => { Nil },
  }
}

def @foldr[A, B](%f: fn (A, B) -> B, %z: B, %xs: List[A]) -> B {
  match (%xs) {
    Cons(%x, %rest) => { %f(%x, @foldr(%f, %z, %rest)) },
    Nil => { %z },
  }
}

def @zip[A, B](%xs: List[A], %ys: List[B]) -> List[(A, B)] {
  match ((%xs, %ys)) {
    (Cons(%x, %p), Cons(%y, %q)) => { Cons((%x, %y), @zip(%p, %q)) },
    _ => { Nil },
  }
}
"""
)
