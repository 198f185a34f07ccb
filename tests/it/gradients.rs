//! Every operator: its CPU gradient is that of finite differences in f64.

use receptive::ops::table::TABLE;
use receptive::random::Random;

use crate::support::CaseProgram;

const CASES: u32 = 24;
const STEP: f64 = 1e-6;

#[test]
fn every_operator_against_finite_differences() {
    for (index, entry) in TABLE.iter().enumerate() {
        for number in 0..CASES {
            let mut random = Random::new(2, index as u32, number);
            let case = (entry.case)(&mut random);
            let what = format!("{} case {number}: {:?} on {:?}", entry.name, case.op, case.inputs);
            let case = CaseProgram::new(&case, &mut random);
            let Some(gradients) = &case.gradients else { continue };

            let mut cpu = case.cpu::<f64>();
            cpu.run(&Default::default()).unwrap();
            // Along a random direction for each input: dy · (f(x + hv) - f(x - hv)) / 2h = dx · v.
            for (position, (tensor, values)) in case.reals.iter().enumerate() {
                let direction: Vec<f64> = values.iter().map(|_| f64::from(random.normal())).collect();
                let gradient = cpu.read(gradients.of(*tensor).unwrap()).unwrap();
                let expected: f64 = gradient.iter().zip(&direction).map(|(g, v)| g * v).sum();
                let value_at = |h: f64| {
                    let mut cpu = case.cpu::<f64>();
                    let moved: Vec<f64> = values.iter().zip(&direction).map(|(&x, v)| f64::from(x) + h * v).collect();
                    cpu.write(*tensor, &moved).unwrap();
                    cpu.run(&Default::default()).unwrap();
                    let dot = |(output, seed): &(_, Vec<f32>)| {
                        let values = cpu.read(*output).unwrap();
                        values.iter().zip(seed).map(|(y, &s)| y * f64::from(s)).sum::<f64>()
                    };
                    case.seeds.iter().map(dot).sum::<f64>()
                };
                let actual = (value_at(STEP) - value_at(-STEP)) / (2.0 * STEP);
                let scale = gradient.iter().zip(&direction).map(|(g, v)| (g * v).abs()).sum::<f64>().max(1.0);
                let error = (actual - expected).abs() / scale;
                assert!(error < 1e-6, "{what}, input {position}: {expected} analytic, {actual} by differences");
            }
        }
    }
}
