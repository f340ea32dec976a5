//! A `cblas_sgemm` in Rust that takes precedence over the one in the MLX wheel for Linux.
//!
//! That wheel brings the reference BLAS, which multiplies matrices about ten times slower than this machine
//! can. The dynamic linker looks for `cblas_sgemm` in the program before it looks in the libraries of
//! `libmlx.so`, so a program that has this crate linked in is served by it. Programs call [`keep`] once, else
//! the linker drops what nothing refers to. On macOS MLX uses Accelerate, and this crate is not used.

use std::ffi::c_int;

const ROW_MAJOR: c_int = 101;
const TRANSPOSED: c_int = 112;
const CONJUGATE_TRANSPOSED: c_int = 113;

/// Below this many multiplications, starting threads costs more than they save.
const ONE_THREAD: usize = 1 << 20;

/// `C = alpha * op(A) * op(B) + beta * C` for single-precision matrices, as the CBLAS interface has it.
///
/// # Safety
/// As CBLAS demands: `a`, `b` and `c` point to matrices of the shapes that the other arguments say, valid for
/// reads and, for `c`, writes; `c` overlaps neither of the others.
#[expect(unsafe_code, reason = "CBLAS is a C interface on raw matrices, found by this name")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cblas_sgemm(
    order: c_int,
    transpose_a: c_int,
    transpose_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: f32,
    a: *const f32,
    lda: c_int,
    b: *const f32,
    ldb: c_int,
    beta: f32,
    c: *mut f32,
    ldc: c_int,
) {
    // Distances between rows and between columns of op(X).
    let strides = |transpose: c_int, leading: c_int| -> (isize, isize) {
        let transposed = transpose == TRANSPOSED || transpose == CONJUGATE_TRANSPOSED;
        let leading = leading as isize;
        if (order == ROW_MAJOR) != transposed { (leading, 1) } else { (1, leading) }
    };
    let (a_rows, a_columns) = strides(transpose_a, lda);
    let (b_rows, b_columns) = strides(transpose_b, ldb);
    let (c_rows, c_columns) = strides(0, ldc);
    let (Ok(m), Ok(n), Ok(k)) = (usize::try_from(m), usize::try_from(n), usize::try_from(k)) else { return };
    let multiplications = m.saturating_mul(n).saturating_mul(k);
    let parallel =
        if multiplications > ONE_THREAD { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the caller vouches for the three matrices, and the strides follow from the arguments as in
    // CBLAS. `gemm` computes C = alpha' * C + beta' * A * B and reads C only when it is told to.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            c_columns,
            c_rows,
            beta != 0.0,
            a,
            a_columns,
            a_rows,
            b,
            b_columns,
            b_rows,
            beta,
            alpha,
            false,
            false,
            false,
            parallel,
        );
    }
}

/// Refers to [`cblas_sgemm`], so that it is linked. Does nothing else.
pub fn keep() {
    std::hint::black_box(cblas_sgemm as *const ());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A` is 2x3, `B` is 3x2, whatever the layout.
    fn product(
        order: c_int,
        transpose: c_int,
        a: &[f32],
        b: &[f32],
        ld: (c_int, c_int),
        beta: f32,
    ) -> Vec<f32> {
        let mut c = vec![1.0; 4];
        #[expect(unsafe_code, reason = "the function under test")]
        // SAFETY: the matrices have the shapes that are passed.
        unsafe {
            cblas_sgemm(
                order,
                transpose,
                transpose,
                2,
                2,
                3,
                2.0,
                a.as_ptr(),
                ld.0,
                b.as_ptr(),
                ld.1,
                beta,
                c.as_mut_ptr(),
                2,
            );
        }
        c
    }

    #[test]
    fn multiplies_in_every_layout() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
        let (a_t, b_t) = ([1.0, 4.0, 2.0, 5.0, 3.0, 6.0], [7.0, 9.0, 11.0, 8.0, 10.0, 12.0]);
        assert_eq!(product(101, 111, &a, &b, (3, 2), 0.0), [116.0, 128.0, 278.0, 308.0]);
        assert_eq!(product(101, 112, &a_t, &b_t, (2, 3), 0.0), [116.0, 128.0, 278.0, 308.0]);
        // Column-major matrices are the transposed ones read the other way round, and so is the result.
        assert_eq!(product(102, 111, &a_t, &b_t, (2, 3), 0.0), [116.0, 278.0, 128.0, 308.0]);
        assert_eq!(product(102, 113, &a, &b, (3, 2), 3.0), [119.0, 281.0, 131.0, 311.0]);
    }
}
