"""PyTorch's functions and modules as Relay, and converters written in Python."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import tvm_ffi

from torch_tvm import _C, relay
from torch_tvm.errors import NotConvertibleError, Refusal

if TYPE_CHECKING:
    import tvm

_take = tvm_ffi.get_global_func("torch_tvm.convert.take")
_register = tvm_ffi.get_global_func("torch_tvm.convert.register")
_operators = tvm_ffi.get_global_func("torch_tvm.convert.operators")
_refused = tvm_ffi.get_global_func("torch_tvm.convert.refused_operators")

_Converter = TypeVar("_Converter", bound=Callable[..., Any])


def to_relay(fn: Callable[..., Any], inputs: Sequence[Any]) -> relay.Function:
    """Convert a function or module to Relay, for inputs like these.

    Parameters
    ----------
    fn
        A function of tensors, a ``torch.nn.Module``, or what ``torch.jit.trace``, ``script``, ``load`` or ``freeze``
        made of one. Functions and modules that TorchScript has not seen yet are traced.
    inputs
        The arguments of one call. Shapes and dtypes count, values only where the function looks at them.

    Returns
    -------
    relay.Function
        Its parameters are the tensors among the inputs, in order; weights are constants in it. A function that
        returns several tensors gives a tuple. Branches and loops on the data of tensors are ``if`` and recursive
        functions, numbers that depend on it are tensors of rank 0. Errors that PyTorch raises for some data are left
        out: Relay has none.

    Raises
    ------
    TypeError
        If `fn` is nothing that can be converted, or if the inputs are not what it takes.
    NotConvertibleError
        If nodes of the function have no counterpart in Relay; lists all of them.

    Examples
    --------
    >>> import torch, torch_tvm
    >>> def scaled(x, y):
    ...     return torch.relu(x) * y
    >>> print(torch_tvm.to_relay(scaled, [torch.rand(2, 3), torch.rand(3)]).astext())  # doctest: +ELLIPSIS
    #[version = "0.0.5"]
    fn (%x: Tensor[(2, 3), float32], %y: Tensor[(3), float32]) {
      %0 = nn.relu(%x)...;
      multiply(%0, %y)...
    }
    """
    arguments = _check_inputs(inputs)
    script: Any = fn if _is_script(fn) else _trace(fn, arguments)
    if isinstance(script, torch.jit.ScriptModule):
        module, graph, schema = _forward_of(script)
        arguments = _bind(schema, arguments, skip=1)
    else:
        module, graph, schema = None, script.graph, script.schema
        arguments = _bind(schema, arguments, skip=0)
    handle, problems = _C.to_relay(graph, module, arguments)
    if problems:
        raise NotConvertibleError([Refusal(*problem) for problem in problems])
    return _take(handle)


def to_relax(fn: Callable[..., Any], inputs: Sequence[Any]) -> tvm.IRModule:
    """Convert a function or module to Relax, TVM's graph IR: the module that the compiler starts from.

    Parameters
    ----------
    fn, inputs
        As for `to_relay`.

    Returns
    -------
    tvm.IRModule
        Its ``main`` takes the tensors among the inputs, in order, and gives a tuple of the results; weights are
        constants in it. It is made of TVM's own operators, but for those that Relax lacks, which are named
        ``torch_tvm.*``, and nothing in it is optimised.

    Raises
    ------
    TypeError
        If `fn` is nothing that can be converted, or if the inputs are not what it takes.
    NotConvertibleError
        If nodes of the function have no counterpart in Relay, or if it branches or loops on the data of tensors.

    Examples
    --------
    >>> import torch, torch_tvm
    >>> def scaled(x, y):
    ...     return torch.relu(x) * y
    >>> module = torch_tvm.to_relax(scaled, [torch.rand(2, 3), torch.rand(3)])
    >>> [str(binding.value.op.name) for binding in module["main"].body.blocks[0].bindings[:2]]
    ['relax.nn.relu', 'relax.multiply']
    """
    from torch_tvm.compiler.relay_to_relax import composite_name, relay_to_relax

    function = to_relay(fn, inputs)
    expressions = relay.expressions(function)
    taken_whole = {
        inner
        for each in expressions
        if isinstance(each, relay.Function) and composite_name(each)
        for inner in relay.expressions(each.body)
    }
    refusals = [
        Refusal(
            f"relay.{type(expr).__name__}",
            "control flow that depends on the data of tensors; what is compiled is straight-line code",
            "" if expr.span is None else f"{expr.span.source_name}:{expr.span.line}",
        )
        for expr in expressions
        if isinstance(expr, relay.If) and expr not in taken_whole
    ]
    if refusals:
        raise NotConvertibleError(refusals)
    typed = relay.infer_type(function)

    def order(ty: relay.Type) -> list[int]:
        assert isinstance(ty, relay.TensorType)
        return list(range(len(ty.shape)))

    inputs_of = [order(param.type_annotation) for param in typed.params]
    results = typed.ret_type.fields if isinstance(typed.ret_type, relay.TupleType) else [typed.ret_type]
    return relay_to_relax(typed, len(typed.params), inputs_of, [order(ty) for ty in results])


def _check_inputs(inputs: Any) -> tuple[Any, ...]:
    if isinstance(inputs, torch.Tensor):
        return (inputs,)
    if isinstance(inputs, tuple | list):
        return tuple(inputs)
    raise TypeError(f"inputs: expected a tuple or list of arguments, got {type(inputs).__name__}")


def _is_script(fn: Any) -> bool:
    return isinstance(fn, torch.jit.ScriptModule | torch.jit.ScriptFunction)


def _trace(fn: Any, arguments: tuple[Any, ...]) -> Any:
    if not callable(fn):
        raise TypeError(
            f"fn: expected a function, a torch.nn.Module or something scripted, got {type(fn).__name__}"
        )
    if isinstance(fn, type):
        raise TypeError(f"fn: expected a function or an instance of a module, got the class {fn.__name__}")
    called = fn.forward if isinstance(fn, torch.nn.Module) else fn
    name = getattr(fn, "__name__", type(fn).__name__)
    try:
        inspect.signature(called).bind(*arguments)
    except TypeError as error:
        raise TypeError(f"{name} does not take {len(arguments)} inputs: {error}") from None
    except ValueError:
        pass  # a builtin without a signature: tracing will tell
    for position, argument in enumerate(arguments):
        if not _is_traceable(argument):
            raise TypeError(
                f"input {position}: expected a tensor, got {type(argument).__name__}; script a function "
                "that takes other values"
            )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", category=DeprecationWarning
        )  # TorchScript is what this package is about
        return torch.jit.trace(fn, arguments, check_trace=False)


def _is_traceable(argument: Any) -> bool:
    if isinstance(argument, tuple | list):
        return all(map(_is_traceable, argument))
    return isinstance(argument, torch.Tensor)


def _forward_of(script: torch.jit.ScriptModule) -> tuple[Any, Any, Any]:
    """Give the module, graph and schema of forward; scripted code is specialised to evaluation mode first."""
    module = script._c
    traced = isinstance(script, torch.jit.TopLevelTracedModule)
    if not traced and not _trains(script):
        module = torch._C._freeze_module(module, preserveParameters=True)
    method = module._get_method("forward")
    return module, method.graph, method.schema


def _trains(script: torch.jit.ScriptModule) -> bool:
    return any(getattr(module, "training", False) for module in script.modules())


def _bind(schema: Any, arguments: tuple[Any, ...], skip: int) -> tuple[Any, ...]:
    """Fill in the defaults of a schema's arguments."""
    declared = schema.arguments[skip:]
    given = list(arguments)
    if len(given) > len(declared):
        raise TypeError(f"{schema.name} takes {len(declared)} inputs, got {len(given)}")
    for argument in declared[len(given) :]:
        if not argument.has_default_value():
            raise TypeError(
                f"{schema.name} takes {len(declared)} inputs, got {len(arguments)}: "
                f"'{argument.name}' is missing"
            )
        given.append(argument.default_value)
    return tuple(given)


def register_operator(name: str, override: bool = False) -> Callable[[_Converter], _Converter]:
    """Register the decorated function as the converter of a TorchScript operator.

    The function gets the operator's arguments in the order of its schema: tensors as Relay expressions, whose
    ``checked_type`` says shape and dtype, everything else as plain Python values. It returns the Relay expression of
    the result, or a tuple of them.

    Parameters
    ----------
    name
        ``"ns::op"`` for all overloads of an operator, ``"ns::op.overload"`` for one. The operator must exist.
    override
        Whether to replace a converter that is there.

    Raises
    ------
    ValueError
        If torch has no such operator, or if it has a converter and `override` is false.

    Examples
    --------
    >>> import torch, torch_tvm
    >>> from torch_tvm import relay
    >>> @torch.library.custom_op("readme::triple", mutates_args=())
    ... def triple(x: torch.Tensor) -> torch.Tensor:
    ...     return 3 * x
    >>> @triple.register_fake
    ... def _(x):
    ...     return torch.empty_like(x)
    >>> @torch_tvm.register_operator("readme::triple")
    ... def convert_triple(x):
    ...     return relay.multiply(x, relay.const(3.0, "float32"))
    >>> function = torch_tvm.to_relay(lambda x: torch.ops.readme.triple(x), [torch.ones(2)])
    >>> "multiply" in function.astext()
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected 'ns::op', got {type(name).__name__}")

    def register(converter: _Converter) -> _Converter:
        if not callable(converter):
            raise TypeError(f"converter of {name}: expected a function, got {type(converter).__name__}")
        _register(name, tvm_ffi.convert(converter), override)
        _C.define_operators()
        return converter

    return register


def registered_operators() -> list[str]:
    """Name every operator that has a converter, sorted.

    Examples
    --------
    >>> from torch_tvm.frontend import registered_operators
    >>> "aten::relu" in registered_operators()
    True
    """
    return [str(name) for name in _operators()]


def refused_operators() -> dict[str, str]:
    """Say why operators have no converter, by name, with an overload if it is of one; those that have a reason of their own.

    Examples
    --------
    >>> from torch_tvm.frontend import refused_operators
    >>> "factorisation" in refused_operators()["aten::linalg_qr"]
    True
    """
    return {str(name): str(reason) for name, reason in _refused().items()}
