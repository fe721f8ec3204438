"use strict"

/** Rows of texts with their cells padded, so that each column is as wide as its widest cell. */
function padded(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column])))
}

/** A padded row as a line. */
const line = (cells) => cells.join("  ").trimEnd()

module.exports = { line, padded }
