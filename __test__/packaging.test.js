"use strict"

// What a user gets: the packed packages, installed by npm into an empty folder, on a machine without Rust.

const { execFileSync, spawnSync } = require("node:child_process")
const fs = require("node:fs")
const os = require("node:os")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { root, testBed } = require("./lib/bed.js")

const bed = testBed()
const app = path.join(bed.folder, "app")
// Node and the system's programs; no cargo, no rustc.
const bin = path.join(bed.folder, "bin")
let env

beforeAll(() => {
  const printed = execFileSync(process.execPath, [path.join(root, "tools/pack.mjs"), path.join(bed.folder, "tarballs")], { encoding: "utf8" })
  const tarballs = printed.trim().split("\n")
  fs.mkdirSync(app)
  fs.mkdirSync(bin)
  const nodes = path.dirname(process.execPath)
  for (const program of ["node", "npm", "npx"]) fs.symlinkSync(path.join(nodes, program), path.join(bin, program))
  env = { PATH: `${bin}:/usr/bin:/bin`, HOME: process.env.HOME ?? os.homedir(), ALIEN_STATE_DIR: bed.stateDir, npm_config_update_notifier: "false" }
  fs.writeFileSync(path.join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }))
  // All by path, with the one dependency that a user's npm would fetch: no network's mood decides this test.
  const jiti = run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", bed.folder, path.join(root, "node_modules/jiti")])
  const all = [...tarballs, path.join(bed.folder, jiti.trim().split("\n").pop())]
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", ...all])
}, 120_000)

function run(program, args, options) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd: app, env, encoding: "utf8", timeout: 60_000, ...options })
  if (error || status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${status ?? error}\n${stdout}\n${stderr}`)
  return stdout
}

test("there is no Rust on the PATH here", () => {
  const found = ["cargo", "rustc"].filter((program) => env.PATH.split(":").some((dir) => fs.existsSync(path.join(dir, program))))
  expect(found).toEqual([])
})

test("nothing but the two packages and jiti is installed", () => {
  expect(fs.readdirSync(path.join(app, "node_modules")).filter((name) => !name.startsWith("."))).toEqual(["@alienplatform", "jiti"])
  expect(fs.readdirSync(path.join(app, "node_modules/@alienplatform")).sort()).toEqual(["core", "core-linux-x64-gnu"])
})

test("import and require", () => {
  const build = `console.log(JSON.stringify(new alien.Kv("k").build().config))`
  expect(run("node", ["--input-type=module", "-e", `import * as alien from "@alienplatform/core"; ${build}`])).toBe('{"type":"kv","id":"k"}\n')
  expect(run("node", ["--input-type=commonjs", "-e", `const alien = require("@alienplatform/core"); ${build}`])).toBe('{"type":"kv","id":"k"}\n')
})

test("tsc --strict", () => {
  for (const name of ["quickstart.ts", "quickstart.mts", "uses.cts", "engine.mts"]) fs.copyFileSync(path.join(__dirname, "types", name), path.join(app, name))
  const types = path.join(root, "node_modules/@types")
  const args = ["--strict", "--noEmit", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--module", "nodenext", "--target", "es2022", "--lib", "es2023", "--typeRoots", types, "--types", "node", "quickstart.ts", "quickstart.mts", "uses.cts", "engine.mts"]
  expect(run("node", [path.join(root, "node_modules/.bin/tsc"), ...args])).toBe("")
}, 60_000)

test("npx alien: version, and a life of a real daemon, in which the package is removed", async () => {
  expect(run("npx", ["alien", "version"])).toBe(`${require("../package.json").version}\n`)
  const image = await bed.image()
  fs.writeFileSync(path.join(app, "alien.ts"), `
    import * as alien from "@alienplatform/core"
    const daemon = new alien.Daemon("d").code({ type: "image", image: ${JSON.stringify(image)} }).command(["/bin/daemon", "print=packed", "ready"]).permissions("execution").build()
    export default new alien.Stack("packed").add(daemon, "live").build()
  `)
  run("npx", ["alien", "deploy"])
  expect(run("npx", ["alien", "logs", "d"])).toBe("packed\n")
  expect(JSON.parse(run("npx", ["alien", "status", "--json"]))).toMatchObject({ resources: [{ id: "d", state: "running" }] })
  fs.rmSync(path.join(app, "node_modules"), { recursive: true })
  const deployment = await alien.connect(bed.options({ name: "packed" }))
  expect(await bed.one(deployment, "d")).toMatchObject({ state: "running", restarts: 0 })
}, 60_000)
