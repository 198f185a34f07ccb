//! `conv_gru compare`: several models on the same forecasts.

use anyhow::Result;
use clap::ValueEnum as _;
use receptive::Device;

use crate::args::{CompareArgs, ModelKind};
use crate::data::Data;
use crate::shared::interrupt::stop_on_interrupt;
use crate::shared::record;
use crate::shared::terminal::say;
use crate::train::{make_folder, network, of, run};

pub fn compare(args: &CompareArgs) -> Result<()> {
    args.run.check()?;
    let data = Data::open(&args.data)?;
    let settings = record::settings(&args.run.out, args, args.run.resume)?;
    let mut models = if args.models.is_empty() { ModelKind::value_variants().to_vec() } else { args.models.clone() };
    // The others are measured against it.
    if !models.contains(&ModelKind::Naive) {
        models.insert(0, ModelKind::Naive);
    }
    let options = args.run.fitted(&data.parts.train);
    let out = &options.out;
    // What is refused leaves an earlier run as it was.
    Device::select(&args.run.device)?;
    args.models.iter().try_for_each(|model| network(*model, &options, &data).map(drop))?;
    settings.write(&["compare.json", "compare.png"])?;
    let stop = stop_on_interrupt()?;
    let mut results = Vec::new();
    for model in models {
        if let (Err(error), true) = (network(model, &options, &data), args.models.is_empty()) {
            let time = data.parts.train.steps();
            say(&format!("left out: {}, for which {time} rows in a window are not enough ({error})", model.name()));
            continue;
        }
        let folder = out.join(model.name());
        make_folder(&folder)?;
        let Some(result) = run(model, &args.data, &options, &data, &folder, &stop)? else { return Ok(()) };
        results.push(result);
        // What is done stays if a later model fails.
        of(&args.data, &options, &data, results.clone()).write(&out.join("compare.json"))?;
    }
    let comparison = of(&args.data, &options, &data, results);
    comparison.picture(&out.join("compare.png"))?;
    say(&format!("\n{}\n{}", comparison.title(), comparison.table().trim_end()));
    let names = ["compare.json", "compare.png"].map(|name| out.join(name).display().to_string());
    say(&format!("wrote {}, and a folder for each model beside them", names.join(", ")));
    Ok(())
}
