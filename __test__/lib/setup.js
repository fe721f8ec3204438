"use strict"

// Once, before any test: the tests' own program is compiled, which takes longer than any of them may.

const path = require("node:path")
const { pathToFileURL } = require("node:url")

module.exports = async () => {
  const { testProgram } = await import(pathToFileURL(path.join(__dirname, "../../tools/lib/test-image.mjs")).href)
  testProgram()
}
