"use strict"

const { TestEnvironment } = require("jest-environment-node")

/** Node's own environment, and a way to Node's own `import()` for the tools, which are ES modules: Jest has none. */
module.exports = class extends TestEnvironment {
  async setup() {
    await super.setup()
    this.global.nativeImport = (specifier) => import(specifier)
  }
}
