// A step of a recurrent layer: parameters, and where its rows lie. Vectors of four hold a unit's gates, as many as there are.
//
//   ELMAN:  h' = act(x + U h)                                              saved: h', input
//   GRU:    r, z, n; h' = (1 - z) n + z h                                  saved: r, z, n, U_n h or r * input, (h), input
//   LSTM:   i, f, g, o; c' = f c + i g, h' = o tanh(c')                    saved: i, f, g, o, c, input
//
// RESET_BEFORE: the candidate of a GRU is U (r h), otherwise r (U h). HARD: gates are clip(0.2 x + 0.5, 0, 1).
// MASK: the input, which U multiplies, is h times a factor.

#import activation

struct Params {
    workgroups: u32,
    batch: u32,
    time: u32,
    hidden: u32,
    block: u32,         // hidden, padded to 4
    first: u32,         // step of this dispatch
    steps: u32,
    resumed: u32,       // backward: whether steps were taken before, by another dispatch
    x_offset: u32,      // forward: what the inputs add; backward: the gradient of the states
    x_stride: u32,
    weight_offset: u32,
    weight_stride: u32,
    bias_offset: u32,
    initial_offset: u32,
    initial_stride: u32,
    mask_offset: u32,
    mask_stride: u32,
    states_offset: u32, // backward: the gradients of the sums
    states_stride: u32,
    saved_offset: u32,
    saved_stride: u32,
    saved_time: u32,    // 1 where only the present step is saved
    product: u32,       // where the gradient of the product begins in those of the sums
}

override REVERSE: u32 = 0u;

// The position of a step of a sequence with `length` steps.
fn position_of(step: u32, length: u32) -> u32 {
    return select(step, length - 1u - step, REVERSE == 1u && step < length);
}

fn gate(x: f32) -> f32 {
#ifdef HARD
    return clamp(0.2 * x + 0.5, 0.0, 1.0);
#else
    return sigmoid(x);
#endif
}

// The derivative of a gate where its value is y.
fn gate_slope(y: f32) -> f32 {
#ifdef HARD
    return select(0.0, 0.2, y > 0.0 && y < 1.0);
#else
    return y * (1.0 - y);
#endif
}
