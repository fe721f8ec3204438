"use strict"

// Every folder in examples/ is a test: it type-checks, passes preflight and is deployed as it stands, its images made of
// its own programs and served in place of ghcr.io.

const { spawn, spawnSync } = require("node:child_process")
const crypto = require("node:crypto")
const fs = require("node:fs")
const path = require("node:path")
const alien = require("@alienplatform/core")
const { eventually, root, testBed, tool, until } = require("./lib/bed.js")

const bed = testBed()
const examples = fs.readdirSync(path.join(root, "examples"))
const folder = (name) => path.join(root, "examples", name)
let env

/** What each shows, seen from its log. */
const SHOWS = {
  quickstart: ["edge", { connector: /^connector .* started/ }],
  "two-daemons": ["two-daemons", { writer: /^writing$/, reader: /^read \d+$/ }],
  jest: ["greetings", { greeter: /^hello from greetings$/ }],
}

const IMAGES = {
  "acme/connector": ["2026-05-17", "quickstart/connector.js"],
  "acme/writer": ["1", "two-daemons/writer.js"],
  "acme/reader": ["1", "two-daemons/reader.js"],
  "acme/greeter": ["1", "jest/greeter.js"],
}

beforeAll(async () => {
  const { nodeImage, receiverFiles } = await tool("node-image.mjs")
  const { serve } = await tool("registry.mjs")
  const layouts = {}
  for (const [name, [tag, program]] of Object.entries(IMAGES)) {
    layouts[name] = await nodeImage(path.join(bed.folder, name), { tag, program: path.join(root, "examples", program), files: receiverFiles() })
  }
  const registry = await serve(layouts)
  bed.later(registry.close)
  env = { ALIEN_REGISTRY_MIRRORS: `ghcr.io=${registry.url}` }
}, 60_000)

test("each is known here", () => {
  expect(Object.keys(SHOWS).sort()).toEqual(examples.sort())
})

test("the quick start is the documented one, to the byte", () => {
  const bytes = fs.readFileSync(path.join(folder("quickstart"), "alien.ts"))
  expect(crypto.createHash("sha256").update(bytes).digest("hex")).toBe("0bf5aefaba26dd43b0111775a9b8464d1d9b4d341e633c6113f1b59a004efbe5")
})

test("they type-check, strictly, and each begins by saying what it shows", () => {
  const project = path.join(bed.folder, "types")
  fs.mkdirSync(path.join(project, "node_modules/@alienplatform"), { recursive: true })
  fs.symlinkSync(root, path.join(project, "node_modules/@alienplatform/core"))
  fs.symlinkSync(path.join(root, "node_modules/@types"), path.join(project, "node_modules/@types"))
  for (const name of examples) fs.copyFileSync(path.join(folder(name), "alien.ts"), path.join(project, `${name}.mts`))
  const compilerOptions = { strict: true, noEmit: true, module: "nodenext", target: "es2022", lib: ["es2023"], types: ["node"], skipLibCheck: false }
  fs.writeFileSync(path.join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.mts"] }))
  const { status, stdout } = spawnSync(path.join(root, "node_modules/.bin/tsc"), ["--project", project], { encoding: "utf8" })
  expect({ status, stdout }).toEqual({ status: 0, stdout: "" })
  for (const name of examples.filter((one) => one !== "quickstart")) {
    expect(fs.readFileSync(path.join(folder(name), "alien.ts"), "utf8")).toMatch(/^\/\/ \S.*\.\n/)
  }
}, 60_000)

test.each(examples)("%s: preflight, deploy, what it shows, destroy", async (name) => {
  const run = (args) => bed.cli(args, { cwd: folder(name), env })
  expect(await run(["preflight"])).toMatchObject({ code: 0, stderr: "" })
  const deployed = await run(["deploy"])
  expect(deployed).toMatchObject({ code: 0, stdout: "" })
  const [deploymentName, shows] = SHOWS[name]
  const deployment = await alien.connect(bed.options({ name: deploymentName }))
  await bed.note(deployment)
  for (const [id, pattern] of Object.entries(shows)) await until(deployment, id, pattern)
  expect(await run(["destroy"])).toMatchObject({ code: 0 })
  await eventually(async () => (await alien.deployments(bed.options())).includes(deploymentName), (there) => !there)
}, 60_000)

test("the Jest example passes under Jest", async () => {
  const jest = path.join(root, "node_modules/jest/bin/jest.js")
  const args = ["--rootDir", folder("jest"), "--testRegex", "stack\\.test\\.js$", "--config", JSON.stringify({ transform: {} })]
  // Not synchronously: the registry is served by this process.
  const child = spawn(process.execPath, [jest, ...args], { cwd: root, env: { ...process.env, ...env }, timeout: 30_000 })
  let output = ""
  child.stderr.on("data", (text) => (output += text))
  const code = await new Promise((resolve) => child.on("close", resolve))
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining("2 passed, 2 total") })
}, 60_000)
