// Cooperative matrices: squares of SIDE x SIDE that a subgroup holds together, f16 factors and f32 sums.
#ifdef MATRIX_8
const SIDE: u32 = 8u;
alias left_matrix = coop_mat8x8<f16, A>;
alias right_matrix = coop_mat8x8<f16, B>;
alias sum_matrix = coop_mat8x8<f32, C>;
#else
const SIDE: u32 = 16u;
alias left_matrix = coop_mat16x16<f16, A>;
alias right_matrix = coop_mat16x16<f16, B>;
alias sum_matrix = coop_mat16x16<f32, C>;
#endif

// A subgroup makes 2 x 4 matrices of the result, a workgroup SUBGROUPS_M x SUBGROUPS_N times that.
override SUBGROUPS_M: u32 = 4u;
override SUBGROUPS_N: u32 = 1u;

// Rows in workgroup memory are 16 bytes longer than their contents: their starts then fall on different banks.
const PADDING4: u32 = 2u;
