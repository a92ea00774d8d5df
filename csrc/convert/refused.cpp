#include "convert/refused.h"

#include <utility>
#include <vector>

namespace torch_tvm::convert {
namespace {

struct Family {
  std::string reason;
  std::vector<std::string> names;  // without "aten::"
};

const std::vector<Family>& Families() {
  static const std::vector<Family> families = {
      {"its iterations end when values say so, and Relay has no operator for it; decompose what is "
       "constant before tracing, or leave it to PyTorch",
       {"svd", "linalg_svd", "linalg_svdvals", "linalg_eig", "linalg_eigh", "linalg_eigvals",
        "linalg_eigvalsh", "linalg_matrix_rank", "linalg_pinv", "pinverse", "linalg_lstsq",
        "linalg_cond", "linalg_matrix_exp", "matrix_exp", "nuclear_norm"}},
      {"it is a factorisation, each step of which needs the one before, and Relay has no operator "
       "for it; factorise what is constant before tracing (solving by factors is converted), or "
       "leave it to PyTorch",
       {"qr", "linalg_qr", "geqrf", "lu_unpack", "_lu_with_info", "linalg_lu", "linalg_lu_factor",
        "linalg_lu_factor_ex", "linalg_ldl_factor", "linalg_ldl_factor_ex", "linalg_ldl_solve"}},
      {"it factorises a matrix with pivots that values choose, and Relay has no operator for it; "
       "with the factors of torch.linalg.lu_factor, linalg.lu_solve is converted",
       {"linalg_solve", "linalg_solve_ex", "linalg_inv", "linalg_inv_ex", "inverse", "linalg_det",
        "det", "linalg_slogdet", "slogdet", "logdet", "linalg_tensorinv", "linalg_tensorsolve"}},
      {"its argument or result is complex, and Relay has no complex dtype; PyTorch runs it",
       {"complex",         "polar",        "chalf",      "stft",       "istft",
        "view_as_complex", "view_as_real", "fft_fft",    "fft_fft2",   "fft_fftn",
        "fft_hfft",        "fft_hfft2",    "fft_hfftn",  "fft_ifft",   "fft_ifft2",
        "fft_ifftn",       "fft_ihfft",    "fft_ihfft2", "fft_ihfftn", "fft_irfft",
        "fft_irfft2",      "fft_irfftn",   "fft_rfft",   "fft_rfft2",  "fft_rfftn"}},
      {"Relay has no operator for this function, nor one that it could be composed of to the last "
       "bits; PyTorch runs it",
       {"erfc",
        "erfinv",
        "igamma",
        "igammac",
        "i0",
        "special_airy_ai",
        "special_bessel_j0",
        "special_bessel_j1",
        "special_bessel_y0",
        "special_bessel_y1",
        "special_erfcx",
        "special_i0e",
        "special_i1",
        "special_i1e",
        "special_log_ndtr",
        "special_modified_bessel_i0",
        "special_modified_bessel_i1",
        "special_modified_bessel_k0",
        "special_modified_bessel_k1",
        "special_ndtr",
        "special_ndtri",
        "special_scaled_modified_bessel_k0",
        "special_scaled_modified_bessel_k1",
        "special_spherical_bessel_j0"}},
      {"it reads memory by strides that are not those of its argument, and here values have no "
       "memory of their own; select, slice, unfold and transpose are converted",
       {"as_strided", "as_strided_copy", "as_strided_scatter"}},
      {"where it cuts is in a tensor, and its results are views of places that only values tell; "
       "places that are numbers are converted",
       {"narrow.Tensor", "tensor_split.tensor_indices_or_sections"}},
      {"its loss is a recurrence over as many steps as lengths in tensors say; PyTorch runs it",
       {"ctc_loss", "_ctc_loss"}},
      {"its result is of uint64, which no kernel takes", {"hash_tensor"}},
      {"it is of training, which changes statistics; batch_norm with training=False is converted",
       {"native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update"}},
  };
  return families;
}

std::map<std::string, std::string> MakeReasons() {
  std::map<std::string, std::string> reasons;
  for (const Family& family : Families()) {
    for (const std::string& name : family.names) reasons.emplace("aten::" + name, family.reason);
  }
  return reasons;
}

}  // namespace

const std::map<std::string, std::string>& ReasonsByOperator() {
  static const std::map<std::string, std::string> reasons = MakeReasons();
  return reasons;
}

std::string WhyNoConverter(const std::string& name) {
  auto found = ReasonsByOperator().find(name);
  if (found == ReasonsByOperator().end()) {
    found = ReasonsByOperator().find(name.substr(0, name.find('.')));
  }
  return found == ReasonsByOperator().end() ? "no converter is registered for it" : found->second;
}

}  // namespace torch_tvm::convert
