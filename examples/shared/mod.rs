//! What the examples share: plots, measures of what a clip sounds like, where the time goes, what they record and show in a
//! terminal, and Ctrl-C.

// Every example compiles this module for itself and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod canvas;
pub mod command;
pub mod interrupt;
pub mod measure;
pub mod plot;
pub mod record;
mod spectrogram;
pub mod terminal;
pub mod timing;
