//! Tests of the schedule: that shares cover everything once, and that no kernel leaves its operands.

use super::*;
use crate::guarded::{Guarded, Side};

#[test]
fn parts_cover_every_tile_of_every_row_once() {
    for shares in 1..9 {
        for tiles in [0, 1, 2, 3, 5, 12, 36, 61] {
            for (rows, columns) in
                [(1, 64), (1, 4096), (2, 576), (63, 576), (64, 64), (130, 576), (512, 1536)]
            {
                let division = Division::new(tiles, columns * 10, columns, rows, shares);
                let mut seen = vec![0; tiles * rows];
                for index in 0..shares {
                    for part in 0..division.parts_of_a_share() {
                        let (tile_range, row_range) = division.part(index, part);
                        assert!(row_range.is_empty() || row_range.start.is_multiple_of(PANEL_ROWS));
                        assert!(row_range.len() <= ROWS_TOGETHER);
                        for tile in tile_range {
                            row_range.clone().for_each(|row| seen[row * tiles + tile] += 1);
                        }
                    }
                }
                assert!(seen.iter().all(|&count| count == 1), "{shares} shares, {tiles} tiles, {rows} rows");
            }
        }
    }
}

#[test]
fn no_kernel_touches_memory_outside_its_operands() {
    let team = crate::ThreadTeam::new(1).unwrap();
    for dtype in Dtype::ALL {
        for simd in SimdLevel::available() {
            for (width, blocks) in [(1, 1), (16, 2), (37, 1), (64, 3), (103, 1)] {
                let columns = if dtype.is_quantised() { blocks * dtype.block_elements() } else { blocks * 9 };
                let weights: Vec<f32> = (0..width * columns).map(|i| (i % 13) as f32 - 6.0).collect();
                let weights = crate::quantise(dtype, &weights).unwrap();
                let matrix = Matrix::pack(dtype, width, columns, &weights, simd, &team).unwrap();
                for rows in [1, 2, 3, 4, 5, 9, 21] {
                    let input: Vec<f32> = (0..rows * columns).map(|i| (i % 7) as f32 - 3.0).collect();
                    let mut quantised = QuantisedRows::new();
                    for side in Side::BOTH {
                        let input = Guarded::new(&input, side);
                        if dtype.is_quantised() {
                            quantised.quantise(&input, rows, simd, &team).unwrap();
                        }
                        let tiles = Guarded::new(matrix.tiles(), side);
                        let panels = Guarded::new(quantised.panels(), side);
                        let mut output = Guarded::new(&vec![0.0f32; rows * width], side);
                        let mut work = Work::new(&matrix, &input, &quantised, output.as_mut_ptr(), rows);
                        (work.tiles, work.panels) = (&tiles, &panels);
                        work.divide(1);
                        for part in 0..work.parts_of_a_share() {
                            // SAFETY: one thread, operands of the lengths asked for, an available level.
                            unsafe { work.run(0, part) };
                        }
                        let mut expected = vec![0.0; rows * width];
                        let mut work = Work::new(&matrix, &input, &quantised, expected.as_mut_ptr(), rows);
                        work.divide(1);
                        for part in 0..work.parts_of_a_share() {
                            // SAFETY: as above.
                            unsafe { work.run(0, part) };
                        }
                        assert_eq!(*output, expected, "{dtype} {simd} {rows} rows {width} outputs {side:?}");
                    }
                }
            }
        }
    }
}
