//! Tests of the schedule: that shares cover everything once, and that no kernel leaves its operands.

use super::*;

#[test]
fn parts_cover_every_tile_of_every_row_once() {
    for threads in 1..9 {
        for tiles in [0, 1, 2, 3, 5, 12, 36] {
            for rows in [1, 2, 63, 64, 130, 512] {
                let mut seen = vec![0; tiles * rows];
                for worker in 0..threads {
                    let (tile_range, row_range) = parts(tiles, rows, worker, threads);
                    assert!(row_range.start.is_multiple_of(PANEL_ROWS));
                    for tile in tile_range {
                        row_range.clone().for_each(|row| seen[row * tiles + tile] += 1);
                    }
                }
                assert!(
                    seen.iter().all(|&count| count == 1),
                    "{threads} threads, {tiles} tiles, {rows} rows"
                );
            }
        }
    }
}

/// Memory between two pages that must not be touched: a read or write outside of it ends the test process.
struct Guarded {
    mapping: *mut u8,
    mapping_bytes: usize,
    start: *mut u8,
    bytes: usize,
}

/// Which of the pages that must not be touched the memory touches.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Before,
    After,
}

impl Guarded {
    fn new(content: &[u8], side: Side) -> Guarded {
        let page = 4096;
        let inner = content.len().next_multiple_of(page).max(page);
        let mapping_bytes = inner + 2 * page;
        // SAFETY: a new private mapping, checked below.
        let mapping = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), mapping_bytes, libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(mapping, libc::MAP_FAILED);
        let mapping = mapping.cast::<u8>();
        // SAFETY: within the mapping; the content fits between the two outer pages.
        unsafe {
            let first = mapping.add(page);
            assert_eq!(libc::mprotect(first.cast(), inner, libc::PROT_READ | libc::PROT_WRITE), 0);
            let start = if side == Side::Before { first } else { first.add(inner - content.len()) };
            start.copy_from_nonoverlapping(content.as_ptr(), content.len());
            Guarded { mapping, mapping_bytes, start, bytes: content.len() }
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `bytes` initialised bytes belong to this object.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }

    fn floats(&self) -> &[f32] {
        // SAFETY: the test only stores whole f32 values, and the start is aligned for them.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes / 4) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.mapping.cast(), self.mapping_bytes) };
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
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
                    for side in [Side::Before, Side::After] {
                        let input = Guarded::new(&bytes_of(&input), side);
                        if dtype.is_quantised() {
                            quantised.quantise(input.floats(), rows, simd, &team).unwrap();
                        }
                        let tiles = Guarded::new(matrix.tiles(), side);
                        let panels = Guarded::new(quantised.panels(), side);
                        let output = Guarded::new(&vec![0; 4 * rows * width], side);
                        let mut work =
                            Work::new(&matrix, input.floats(), &quantised, output.start.cast(), rows);
                        (work.tiles, work.panels) = (tiles.bytes(), panels.bytes());
                        // SAFETY: one thread, operands of the lengths asked for, an available level.
                        unsafe { work.run(0, 1) };
                        let mut expected = vec![0.0; rows * width];
                        let work =
                            Work::new(&matrix, input.floats(), &quantised, expected.as_mut_ptr(), rows);
                        // SAFETY: as above.
                        unsafe { work.run(0, 1) };
                        assert_eq!(
                            output.floats(),
                            expected,
                            "{dtype} {simd} {rows} rows {width} outputs {side:?}"
                        );
                    }
                }
            }
        }
    }
}
