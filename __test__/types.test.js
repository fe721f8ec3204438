"use strict"

const { spawnSync } = require("node:child_process")
const { join } = require("node:path")

test("the quick start and the sample uses type-check, strictly, and every wrong use does not", () => {
  const tsc = join(__dirname, "../node_modules/.bin/tsc")
  const { status, stdout } = spawnSync(tsc, ["--project", join(__dirname, "types/tsconfig.json")], { encoding: "utf8" })
  expect({ status, stdout }).toEqual({ status: 0, stdout: "" })
}, 60_000)
