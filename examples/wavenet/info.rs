//! `wavenet info`: what a model is.

use anyhow::Result;
use receptive::nn::{WaveNet, WaveNetConfig};
use receptive::train::load_model;

use crate::args::InfoArgs;
use crate::shared::terminal::{dilations, grouped, say};

/// The rate at which a preset's receptive field is told in milliseconds.
const PRESET_RATE: u32 = 16_000;

pub fn info(args: &InfoArgs) -> Result<()> {
    let (config, rate, trained) = match (&args.model, &args.preset) {
        (Some(path), _) => {
            let model = load_model::<WaveNetConfig>(path, "wavenet")?;
            let rate = model.metadata.get("sample_rate").and_then(|rate| rate.parse().ok());
            (model.config, rate.unwrap_or(PRESET_RATE), model.metadata)
        }
        (None, preset) => {
            let config = WaveNetConfig::preset(preset.as_deref().unwrap_or("small"))?;
            (config, PRESET_RATE, Default::default())
        }
    };
    let model = WaveNet::new(config)?;
    say(describe(&model, rate)?.trim_end());
    for (key, value) in trained {
        say(&format!("{key}: {value}"));
    }
    Ok(())
}

/// Layers, widths, parameters and the picture of the dilations.
pub fn describe(model: &WaveNet, rate: u32) -> Result<String> {
    let config = model.config();
    Ok(format!(
        "model: {} layers of kernel {}, channels: residual {}, gate {}, skip {}, head {}; {} classes; {} parameters\n{}",
        config.dilations.len(),
        config.kernel,
        config.residual,
        config.gate,
        config.skip,
        config.head,
        config.classes,
        grouped(model.parameter_count()?),
        dilations(&config.dilations, config.kernel, model.receptive_field(), rate)
    ))
}
