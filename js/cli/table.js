"use strict"

/** Rows of texts with their cells padded, so that each column is as wide as its widest cell. */
function padded(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column])))
}

/** A padded row as a line. */
const line = (cells) => cells.join("  ").trimEnd()

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"]

/** `1.5 GiB`. */
function size(bytes) {
  const power = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10))
  return `${power === 0 ? bytes : (bytes / 1024 ** power).toFixed(1)} ${UNITS[power]}`
}

module.exports = { line, padded, size }
