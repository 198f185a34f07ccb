// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
// Bit for bit what src/random.rs draws.

// The high 32 bits of a product, from 16-bit halves: WGSL has no 64-bit integers.
fn mul_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    // Neither sum overflows: each is at most (2^16 - 1)^2 + 2^16 - 1.
    let low = a1 * b0 + ((a0 * b0) >> 16u);
    let middle = a0 * b1 + (low & 0xffffu);
    return a1 * b1 + (low >> 16u) + (middle >> 16u);
}

// 128 random bits for a 128-bit counter and a 64-bit key.
fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        c = vec4<u32>(
            mul_high(0xCD9E8D57u, c.z) ^ c.y ^ k.x,
            0xCD9E8D57u * c.z,
            mul_high(0xD2511F53u, c.x) ^ c.w ^ k.y,
            0xD2511F53u * c.x,
        );
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// Maps 32 random bits to the open interval (0, 1): the 23 high bits, centred in their cells.
fn unit_f32(bits: u32) -> f32 {
    return (f32(bits >> 9u) + 0.5) * (1.0 / 8388608.0);
}
