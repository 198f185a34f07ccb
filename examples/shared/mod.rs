//! What the examples share: plots, measures of what a clip sounds like, where the time goes, and what they show in a
//! terminal.

// Every example compiles this module for itself and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod canvas;
pub mod measure;
pub mod plot;
mod spectrogram;
pub mod terminal;
pub mod timing;
