"use strict"

const { execFileSync, spawnSync } = require("node:child_process")
const { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } = require("node:fs")
const { tmpdir } = require("node:os")
const { join } = require("node:path")

const root = join(__dirname, "..")
const node = (code, options = {}) => execFileSync(process.execPath, ["-e", code], { cwd: root, encoding: "utf8", ...options }).trim()
const esm = (code, cwd) => execFileSync(process.execPath, ["--input-type=module", "-e", code], { cwd, encoding: "utf8" }).trim()

const NAMES = [
  "AlienError", "Daemon", "Deployment", "Kv", "Queue", "Resource", "ResourceNotFoundError", "ResourceOutputsParseError", "Stack", "Storage",
  "UnexpectedResourceTypeError", "ValidationError", "Vault", "connect", "defineError", "deploy", "deployments",
  "getResourceOutputs", "images", "plan", "preflight", "prune", "render",
]

test("import and require give the same things", () => {
  const found = esm(
    `import * as esm from "@alienplatform/core"
     import { createRequire } from "node:module"
     const cjs = createRequire(process.cwd() + "/x.js")("@alienplatform/core")
     const names = Object.keys(esm).filter((name) => name !== "module.exports")
     console.log(JSON.stringify({ names, same: names.every((name) => esm[name] === cjs[name]), all: Object.keys(cjs).length === names.length }))`,
    root,
  )
  const { names, same, all } = JSON.parse(found)
  expect(names).toEqual(expect.arrayContaining(NAMES))
  expect({ same, all }).toEqual({ same: true, all: true })
})

test("importing loads no native code: benches/import.mjs measures what it costs", () => {
  const code = `require("@alienplatform/core"); console.log(Object.keys(require.cache).some((file) => file.endsWith(".node")))`
  expect(node(code)).toBe("false")
})

test("a process ends by itself after a call", () => {
  expect(node(`new (require("@alienplatform/core").Kv)("k").build(); console.log("done")`, { timeout: 10_000 })).toBe("done")
})

describe("the packed packages", () => {
  const built = ["alien-supervisor", "alien.linux-x64-gnu.node"].every((file) => existsSync(join(root, file)))
  const folder = mkdtempSync(join(tmpdir(), "alien-surface-"))
  const scope = join(folder, "node_modules/@alienplatform")
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  beforeAll(() => {
    expect({ built }).toEqual({ built: true })
    const printed = execFileSync(process.execPath, [join(root, "tools/pack.mjs"), join(folder, "tarballs")], { encoding: "utf8" })
    for (const tarball of printed.trim().split("\n")) {
      const name = tarball.includes("linux-x64-gnu") ? "core-linux-x64-gnu" : "core"
      mkdirSync(join(scope, name), { recursive: true })
      execFileSync("tar", ["-xzf", tarball, "-C", join(scope, name), "--strip-components=1"])
    }
  }, 60_000)

  test("work in a folder of their own", () => {
    const code = `import { Stack } from "@alienplatform/core"; console.log(JSON.stringify(new Stack("s").build()))`
    expect(esm(code, folder)).toBe('{"id":"s","resources":{}}')
    expect(esm(`import { createCommandReceiver } from "@alienplatform/core/commands"; createCommandReceiver().command("a", () => 1); console.log("ok")`, folder)).toBe("ok")
    expect(node(`console.log(typeof require("@alienplatform/core/commands").CommandsClient)`, { cwd: folder })).toBe("function")
    const types = Object.values(require(join(root, "package.json")).exports["./commands"]).map((one) => one.types)
    expect(types.filter((file) => existsSync(join(scope, "core", file)))).toEqual(types)
    const manifest = require(join(scope, "core/package.json"))
    expect(manifest.optionalDependencies).toEqual({ "@alienplatform/core-linux-x64-gnu": manifest.version })
    expect(readdirSync(join(scope, "core-linux-x64-gnu"))).toEqual(expect.arrayContaining(["alien-supervisor", "alien.linux-x64-gnu.node"]))
  })

  test("hold nothing that was not meant to be shipped", () => {
    expect(readdirSync(join(scope, "core")).filter((name) => name !== "README.md").sort()).toEqual(
      ["LICENSE", "index.d.mts", "index.d.ts", "index.js", "index.mjs", "js", "package.json"],
    )
  })

  test("without the native half, the error says what to install, and errors still work", () => {
    const bare = join(folder, "bare/node_modules/@alienplatform/core")
    cpSync(join(scope, "core"), bare, { recursive: true })
    const code = `
      const { AlienError, Kv } = require("@alienplatform/core")
      try { new Kv("k").build() } catch (error) { console.log(error instanceof AlienError, error.code, error.message, error.hint) }`
    // Node looks for packages in every folder above, so this one must not lie below the others.
    const alone = mkdtempSync(join(tmpdir(), "alien-bare-"))
    cpSync(join(folder, "bare"), alone, { recursive: true })
    const { stdout } = spawnSync(process.execPath, ["-e", code], { cwd: alone, encoding: "utf8" })
    rmSync(alone, { recursive: true, force: true })
    expect(stdout).toContain("true NATIVE_ADDON_NOT_FOUND @alienplatform/core has no native addon for linux x64, glibc")
    expect(stdout).toContain("npm install @alienplatform/core-linux-x64-gnu")
  })
})
