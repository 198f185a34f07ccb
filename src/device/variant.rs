//! The choice among variants of a kernel, as data: a list in order of preference, each with the reason it gives when
//! it does not suit. The choice follows from shape and capabilities alone, never from a timing, so it is reproducible.

use std::fmt;

use super::capabilities::Capabilities;
use crate::{Error, Result};

/// One variant of a kernel for problems `P`, configured by a value `V` (tile sizes, constants, …).
pub struct Variant<P: 'static, V: 'static> {
    /// Short name, printed and used in tests.
    pub name: &'static str,
    /// The configuration for a problem on a device, or why this variant does not suit.
    pub admits: fn(&P, &Capabilities) -> Result<V, String>,
}

/// The variant that was chosen, and why not those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<V> {
    /// The kernel family, such as `conv1d`.
    pub family: &'static str,
    /// The chosen variant.
    pub name: &'static str,
    /// Its configuration.
    pub value: V,
    /// The preferred variants that did not suit, each with its reason.
    pub rejected: Vec<(&'static str, String)>,
}

impl<V> Choice<V> {
    /// The choice alone, without the configuration.
    pub fn without_value(self) -> Choice<()> {
        Choice { family: self.family, name: self.name, value: (), rejected: self.rejected }
    }
}

/// `family: name`, followed by the rejected variants in brackets.
impl<V> fmt::Display for Choice<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.family, self.name)?;
        if self.rejected.is_empty() { Ok(()) } else { write!(f, " ({})", reasons(&self.rejected)) }
    }
}

/// The first variant in `preference` that admits `problem` on a device with `capabilities`.
///
/// # Errors
/// [`Error::Shader`] with every variant's reason, if none suits.
pub fn choose<P, V>(
    family: &'static str,
    preference: &[Variant<P, V>],
    problem: &P,
    capabilities: &Capabilities,
) -> Result<Choice<V>> {
    let mut rejected = Vec::new();
    for variant in preference {
        match (variant.admits)(problem, capabilities) {
            Ok(value) => return Ok(Choice { family, name: variant.name, value, rejected }),
            Err(reason) => rejected.push((variant.name, reason)),
        }
    }
    let message = format!("no variant suits this device and shape: {}", reasons(&rejected));
    Err(Error::Shader { shader: family.to_owned(), variant: "any".to_owned(), message })
}

fn reasons(rejected: &[(&'static str, String)]) -> String {
    rejected.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Problem {
        channels: u32,
    }

    const PREFERENCE: &[Variant<Problem, u32>] = &[
        Variant {
            name: "coop16",
            admits: |problem, capabilities| match capabilities.cooperative_matrix {
                true if problem.channels.is_multiple_of(16) => Ok(16),
                true => Err(format!("{} channels are no multiple of 16", problem.channels)),
                false => Err("no cooperative matrices".to_owned()),
            },
        },
        Variant {
            name: "tile64",
            admits: |problem, _| match problem.channels {
                64.. => Ok(64),
                channels => Err(format!("{channels} channels are fewer than 64")),
            },
        },
    ];

    #[test]
    fn the_first_that_suits_is_taken() {
        let floor = Capabilities::floor();
        let choice = choose("conv1d", PREFERENCE, &Problem { channels: 64 }, &floor).unwrap();
        assert_eq!((choice.name, choice.value), ("tile64", 64));
        assert_eq!(choice.to_string(), "conv1d: tile64 (coop16: no cooperative matrices)");
        let best = Capabilities { cooperative_matrix: true, ..floor };
        let choice = choose("conv1d", PREFERENCE, &Problem { channels: 64 }, &best).unwrap();
        assert_eq!((choice.value, choice.to_string()), (16, "conv1d: coop16".to_owned()));
    }

    #[test]
    fn every_reason_is_given_when_none_suits() {
        let error = choose("conv1d", PREFERENCE, &Problem { channels: 3 }, &Capabilities::floor()).unwrap_err();
        assert!(matches!(&error, Error::Shader { shader, .. } if shader == "conv1d"));
        let message = error.to_string();
        assert!(message.contains("coop16: no cooperative matrices; tile64: 3 channels are fewer"), "{message}");
    }
}
