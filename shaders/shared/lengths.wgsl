// How many positions of a sequence there are: of `p.time`, or of as many as `lengths` says.
fn length_of(sequence: u32) -> u32 {
#ifdef LENGTHS
    return min(lengths[sequence], p.time);
#else
    return p.time;
#endif
}
