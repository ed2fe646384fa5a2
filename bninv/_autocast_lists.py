"""PyTorch's autocast lists: which operators it casts the arguments of, how, on which device.

The lists of PyTorch 2.11, and what came after, with its names of the policies
(`ATen/autocast_mode.h`) and of the operators, overloads included; `tests/autocast/test_lists.py`
holds them against PyTorch itself.
Operators that are on no list take what they are given, and what they call is cast in its turn.

    lower_precision_fp   all floating-point tensors to the autocast dtype
    fp32                 all to float32
    fp32_set_opt_dtype   the result's dtype is float32, unless the call gives one
    fp32_append_dtype    the same, for overloads that have no argument for it
    promote              all to float32 if one of them is that, else to the autocast dtype
    banned               an error

"All tensors" are those of the device in question that are neither float64 nor of integers.
"""

from __future__ import annotations

from bninv import _torch


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LISTS: dict[str, dict[str, frozenset[str]]] = {
    "cuda": {
        "lower_precision_fp": _names(
            """_convolution _convolution.deprecated conv1d conv2d conv3d conv_tbc conv_transpose1d
            conv_transpose2d.input conv_transpose3d.input convolution cudnn_convolution
            cudnn_convolution_transpose prelu addmm addmv addr matmul einsum mm mv linalg_vecdot
            linear addbmm baddbmm bmm chain_matmul linalg_multi_dot _thnn_fused_lstm_cell
            _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell _cudnn_rnn
            _scaled_dot_product_flash_attention scaled_dot_product_attention"""
        ),
        "fp32": _names(
            """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan
            pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm
            group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity
            poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div
            l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss
            soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits
            dist pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d
            upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d
            _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa
            upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa"""
        ),
        "fp32_set_opt_dtype": _names(
            """prod prod.dim_int prod.dim_Dimname softmax.int softmax.Dimname log_softmax.int
            log_softmax.Dimname cumprod cumprod.dimname cumsum cumsum.dimname linalg_vector_norm
            linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList sum.dim_DimnameList"""
        ),
        "fp32_append_dtype": _names("norm.Scalar norm.ScalarOpt_dim norm.names_ScalarOpt_dim"),
        "promote": _names(
            """addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot
            scatter_add"""
        ),
        "banned": _names("binary_cross_entropy"),
    },
    "cpu": {
        "lower_precision_fp": _names(
            """_convolution.deprecated conv1d conv1d.padding conv2d conv2d.padding conv3d
            conv3d.padding conv_tbc conv_transpose1d conv_transpose2d.input conv_transpose3d.input
            prelu addmm _addmm_activation addbmm baddbmm bmm mm linalg_vecdot linear matmul
            mkldnn_rnn_layer _native_multi_head_attention scaled_dot_product_attention"""
        ),
        "fp32": _names(
            """avg_pool3d adaptive_avg_pool3d max_pool3d adaptive_max_pool3d fractional_max_pool2d
            fractional_max_pool3d max_unpool2d max_unpool3d reflection_pad1d reflection_pad2d
            replication_pad1d replication_pad2d replication_pad3d grid_sampler grid_sampler_2d
            _grid_sampler_2d_cpu_fallback grid_sampler_3d polar prod prod.dim_int prod.dim_Dimname
            quantile quantile.scalar nanquantile nanquantile.scalar stft stft.center cdist trace
            view_as_complex binary_cross_entropy binary_cross_entropy_with_logits
            cosine_embedding_loss cross_entropy_loss ctc_loss.IntList ctc_loss.Tensor
            hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss mse_loss
            multi_margin_loss multilabel_margin_loss multilabel_margin_loss_forward nll_loss
            nll_loss2d poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
            fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft fft_rfft2
            fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft cholesky cholesky_inverse
            cholesky_solve geqrf inverse _lu_with_info lu_solve orgqr ormqr pinverse qr svd
            triangular_solve linalg_cholesky linalg_cholesky_ex linalg_cond linalg_cond.p_str
            linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_householder_product
            linalg_inv linalg_inv_ex linalg_lstsq linalg_matrix_rank
            linalg_matrix_rank.atol_rtol_tensor linalg_matrix_rank.atol_rtol_float
            linalg_matrix_rank.tol_tensor linalg_qr linalg_solve linalg_svd linalg_svdvals
            linalg_tensorinv linalg_tensorsolve fake_quantize_per_tensor_affine"""
        ),
        "promote": _names("cat stack index_copy index_copy.dimname"),
    },
}

# On the list since some version after 2.11; whether this one has it is seen from PyTorch itself.
if _torch.has_kernel("aten::rms_norm", "AutocastCUDA"):
    LISTS["cuda"]["fp32"] |= {"rms_norm"}
