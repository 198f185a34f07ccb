//! From a program to dispatches: what each operator asks for, and whether a device can do it.

use crate::device::{Capabilities, HALF, HALF_PACKED};
use crate::error::{Error, Result};
use crate::graph::{Binding, Dispatch, Extent, GpuPlan, Node, Operand, Program, Role, Shape, Tensor, TensorId};

/// Whether a tensor is a part of a flat vector, bound on its own.
pub(super) fn is_slice_of_flat(program: &Program, tensor: TensorId) -> bool {
    matches!(program.tensors[tensor.index()].role, Role::Param(_) | Role::Grad(_))
}

/// Workgroups laid out in two dimensions where one does not hold them: at least as many, and less than a line more, which
/// kernels tell by their index (`shaders/shared/grid.wgsl`).
pub(super) fn grid(workgroups: u64, capabilities: &Capabilities) -> Result<[u32; 2]> {
    let limit = u64::from(capabilities.max_workgroups);
    let lines = workgroups.div_ceil(limit).max(1);
    // Kernels count workgroups in 32 bits.
    let most = (limit * limit).min(u64::from(u32::MAX));
    if workgroups.div_ceil(lines) * lines > most {
        return Err(Error::Graph(format!(
            "a dispatch of {workgroups} workgroups, where a device counts to {most}; use a smaller batch or shorter \
             sequences (chunks)"
        )));
    }
    Ok([workgroups.div_ceil(lines) as u32, if workgroups == 0 { 0 } else { lines as u32 }])
}

/// Whether a device can bind every buffer of a program; if not, the error names the tensor that needs the largest.
pub(super) fn check_bindings(program: &Program, capabilities: &Capabilities) -> Result<()> {
    let (bytes, limit) = (program.largest_binding_bytes(), capabilities.max_binding_bytes);
    if bytes <= limit {
        return Ok(());
    }
    if let Some((state, _)) = program.states().find(|&(_, elements)| elements as u64 * 4 == bytes) {
        let what = format!("the vector of all {} as one storage binding", state.name());
        return Err(Error::TooLarge { what, bytes, limit, hint: "use fewer channels or layers".into() });
    }
    let Extent { batch, time } = program.extent();
    let tensor = program.largest_tensor();
    let what = tensor.map_or_else(
        || "a tensor".to_owned(),
        |tensor| {
            let maker = program.maker(tensor).map(|op| format!(" of {op}")).unwrap_or_default();
            format!("tensor {} {}{maker}", program.name(tensor), program.shape(tensor))
        },
    );
    // A tensor's rows are in proportion to the batch.
    let fitting = tensor.filter(|&t| program.shape(t).batch == batch).map_or(0, |_| batch as u64 * limit / bytes);
    let hint = match fitting {
        0 => format!("use a smaller batch than {batch}, shorter sequences (chunks) than {time} or fewer channels"),
        _ => format!("use a batch of {fitting} instead of {batch}, or shorter sequences (chunks) than {time}"),
    };
    Err(Error::TooLarge { what: format!("{what} as one storage binding"), bytes, limit, hint })
}

/// The dispatches of one step of a program at its planned extent: kernels, bindings, parameters and, in words, the
/// variants chosen. Needs no device.
///
/// # Errors
/// As [`Program::shapes`]; what choosing a kernel gives.
pub fn dispatches(program: &Program, capabilities: &Capabilities) -> Result<Vec<Dispatch>> {
    Ok(dispatches_at(program, capabilities, &program.shapes(program.extent())?)?.into_iter().flatten().collect())
}

/// The same of each operator that runs, at another extent, given the shapes of all tensors.
pub(super) fn dispatches_at(
    program: &Program,
    capabilities: &Capabilities,
    shapes: &[Shape],
) -> Result<Vec<Vec<Dispatch>>> {
    let operand = |&tensor: &TensorId| {
        let place = program.place(tensor)?;
        let &Tensor { role, half, .. } = &program.tensors[tensor.index()];
        let offset = if is_slice_of_flat(program, tensor) { 0 } else { place.offset };
        Ok(Operand {
            binding: Binding::Tensor(tensor),
            shape: shapes[tensor.index()],
            planned: program.shape(tensor),
            stride: place.stride,
            offset,
            place: (place.allocation, place.offset),
            needed: program.needed[tensor.index()],
            param: matches!(role, Role::Param(_) | Role::Within { .. }).then_some(place.offset),
            half,
        })
    };
    let of_operator = |node: &Node| {
        let inputs: Vec<Operand> = node.inputs.iter().map(operand).collect::<Result<_>>()?;
        let outputs: Vec<Operand> = node.outputs.iter().map(operand).collect::<Result<_>>()?;
        let plan = GpuPlan { inputs: &inputs, outputs: &outputs, capabilities };
        let mut dispatches = node.op.gpu(&plan)?;
        if inputs.iter().chain(&outputs).any(|operand| operand.half) {
            let define = if capabilities.f16 { HALF } else { HALF_PACKED };
            for defines in dispatches.iter_mut().map(|dispatch| &mut dispatch.kernel.defines) {
                if !defines.contains(&define) {
                    defines.push(define);
                }
            }
        }
        Ok(dispatches)
    };
    program.running().map(of_operator).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{WaveNet, WaveNetConfig};
    use crate::optim::OptimizerConfig;

    #[test]
    fn workgroups_that_one_dimension_does_not_hold_take_two() {
        let floor = Capabilities::floor();
        for (workgroups, expected) in [
            (0, [0, 0]),
            (1, [1, 1]),
            (65_535, [65_535, 1]),
            (65_536, [32_768, 2]),
            (131_070, [65_535, 2]),
            (131_071, [43_691, 3]),
        ] {
            assert_eq!(grid(workgroups, &floor).unwrap(), expected, "{workgroups}");
        }
        for limit in [1, 2, 3, 7, 100] {
            let few = Capabilities { max_workgroups: limit, ..floor.clone() };
            for workgroups in 1..=u64::from(limit * limit) {
                let [x, y] = grid(workgroups, &few).unwrap();
                assert!(x <= limit && y <= limit, "{workgroups} of {limit}: {x} x {y}");
                let made = u64::from(x) * u64::from(y);
                assert!((workgroups..workgroups + u64::from(x.max(y))).contains(&made), "{workgroups}: {x} x {y}");
            }
            let error = grid(u64::from(limit * limit) + 1, &few).unwrap_err().to_string();
            assert!(error.contains("smaller batch"), "{error}");
        }
        assert!(grid(u64::from(u32::MAX) + 1, &floor).is_err());
    }

    /// What the floor of WebGPU says to a training step of preset `paper`.
    fn verdict(batch: usize, time: usize) -> Result<()> {
        let model = WaveNet::new(WaveNetConfig::paper()).unwrap();
        let program = model.training(Extent { batch, time }, &OptimizerConfig::default()).unwrap().program;
        check_bindings(&program, &Capabilities::floor())
    }

    #[test]
    fn a_tensor_too_large_is_named_with_what_to_reduce() {
        let error = verdict(64, 20_000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor skip [64, 16930, 256] of conv1d as one storage binding needs 1.0 GiB (1109524480 bytes), the limit \
             is 128.0 MiB (134217728 bytes); use a batch of 7 instead of 64, or shorter sequences (chunks) than 20000"
        );
        verdict(7, 20_000).unwrap();
        let error = verdict(1, 300_000).unwrap_err().to_string();
        assert!(error.contains("skip [1, 296930, 256]") && error.contains("chunks) than 300000"), "{error}");
    }
}
