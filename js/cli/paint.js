"use strict"

const { styleText } = require("node:util")

/** Text in a colour, where the stream is a terminal and nobody objects (https://no-color.org). */
function paint(stream, style, text) {
  return stream.isTTY && !process.env.NO_COLOR && process.env.TERM !== "dumb" ? styleText(style, text) : text
}

module.exports = { paint }
