//! The choice among variants of a kernel, as data: a list in order of preference, each with the reason it gives when
//! it does not suit. The choice follows from shape and capabilities alone, never from a timing, so it is reproducible.

use std::fmt;

use super::capabilities::Capabilities;
use crate::{Error, Result};

/// One variant of a kernel for problems `P`, configured by a value `V` (tile sizes, constants, …).
pub struct Variant<P: 'static, V: 'static> {
    /// Short name, printed and used in tests.
    pub name: &'static str,
    /// The configuration for a problem on a device, or why this variant can't do it.
    pub admits: fn(&P, &Capabilities) -> Result<V, String>,
    /// Whether it is worth taking where it can be; if not, why. Not asked where [`Capabilities::forcing`] names it.
    pub suits: fn(&P, &Capabilities) -> Result<(), String>,
}

/// For [`Variant::suits`]: wherever it can be taken it is worth it.
pub fn always<P>(_problem: &P, _capabilities: &Capabilities) -> Result<(), String> {
    Ok(())
}

/// A list of variants by name, in order of preference.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The family's name, such as `conv1d`.
    pub name: &'static str,
    /// The names of its variants.
    pub variants: fn() -> Vec<&'static str>,
}

/// The names of a list.
pub(crate) fn names<P, V>(preference: &[Variant<P, V>]) -> Vec<&'static str> {
    preference.iter().map(|variant| variant.name).collect()
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

/// The first variant in `preference` that admits and suits `problem` on a device with `capabilities`; where those force
/// one of the family, that one if it admits the problem.
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
    let forced = capabilities.forced_variant(family);
    for variant in preference.iter().filter(|variant| forced.is_none_or(|name| name == variant.name)) {
        let suits = |value| match forced {
            Some(_) => Ok(value),
            None => (variant.suits)(problem, capabilities).map(|()| value),
        };
        match (variant.admits)(problem, capabilities).and_then(suits) {
            Ok(value) => return Ok(Choice { family, name: variant.name, value, rejected }),
            Err(reason) => rejected.push((variant.name, reason)),
        }
    }
    let message = match forced {
        Some(name) if rejected.is_empty() => {
            format!("there is no variant {name:?}; there is: {}", names(preference).join(", "))
        }
        _ => format!("no variant suits this device and shape: {}", reasons(&rejected)),
    };
    Err(Error::Shader { shader: family.to_owned(), variant: forced.unwrap_or("any").to_owned(), message })
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
                Some(size) if problem.channels.is_multiple_of(size) => Ok(size),
                Some(size) => Err(format!("{} channels are no multiple of {size}", problem.channels)),
                None => Err("no cooperative matrices".to_owned()),
            },
            suits: always,
        },
        Variant {
            name: "tile64",
            admits: |problem, _| match problem.channels {
                64.. => Ok(64),
                channels => Err(format!("{channels} channels are fewer than 64")),
            },
            suits: |problem, _| match problem.channels {
                1000.. => Err("too many channels".to_owned()),
                _ => Ok(()),
            },
        },
    ];

    #[test]
    fn a_forced_variant_is_taken_wherever_it_can_be() {
        let floor = Capabilities::floor();
        let many = Problem { channels: 1000 };
        let error = choose("conv1d", PREFERENCE, &many, &floor).unwrap_err().to_string();
        assert!(error.contains("tile64: too many channels"), "{error}");
        let forcing = floor.clone().forcing("conv1d", "tile64");
        assert_eq!(choose("conv1d", PREFERENCE, &many, &forcing).unwrap().value, 64);
        assert!(choose("other", PREFERENCE, &many, &forcing).is_err(), "of another family");
        let error = choose("conv1d", PREFERENCE, &Problem { channels: 3 }, &forcing).unwrap_err().to_string();
        assert!(error.contains("3 channels") && !error.contains("coop16"), "{error}");
        let error = choose("conv1d", PREFERENCE, &many, &floor.forcing("conv1d", "tile6")).unwrap_err().to_string();
        assert!(error.contains("no variant \"tile6\"; there is: coop16, tile64"), "{error}");
    }

    #[test]
    fn the_first_that_suits_is_taken() {
        let floor = Capabilities::floor();
        let choice = choose("conv1d", PREFERENCE, &Problem { channels: 64 }, &floor).unwrap();
        assert_eq!((choice.name, choice.value), ("tile64", 64));
        assert_eq!(choice.to_string(), "conv1d: tile64 (coop16: no cooperative matrices)");
        let best = Capabilities { cooperative_matrix: Some(16), ..floor };
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
