// What changes from step to step; written once a step.
struct Step {
    learning_rate: f32,
    step_low: u32,
    step_high: u32,
    seed_low: u32,
    seed_high: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
