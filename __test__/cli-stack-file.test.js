"use strict"

// Loading the stack file: every kind that plain Node should take, and what is said about one that cannot be used.

const fs = require("node:fs")
const path = require("node:path")
const { testBed } = require("./lib/bed.js")

const bed = testBed()
let count = 0

/** A folder with these files. */
function folder(files) {
  const dir = path.join(bed.folder, `stack-${++count}`)
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true })
    fs.writeFileSync(path.join(dir, name), text)
  }
  return dir
}

const preflight = (files, ...args) => bed.cli(["preflight", ...args], { cwd: folder(files) })
const BUILT = `new alien.Stack("s").add(new alien.Daemon("d").code({ type: "image", image: "nginx" }).permissions("p").build(), "live").build()`
const ESM = `import * as alien from "@alienplatform/core"\nexport default ${BUILT}\n`
const CJS = `const alien = require("@alienplatform/core")\n`
const TS = `import * as alien from "@alienplatform/core"\nimport type { StackConfig } from "@alienplatform/core"\nenum E { A = 1 }\nconst stack: StackConfig = ${BUILT}\nexport default stack satisfies StackConfig\n`

test.each([
  ["alien.ts", { "alien.ts": TS }],
  ["alien.ts in a package of ES modules", { "alien.ts": TS, "package.json": '{"type":"module"}' }],
  ["alien.ts that imports its neighbours", { "alien.ts": `import { id } from "./name"\nimport { tag } from "./tag.ts"\nimport * as alien from "@alienplatform/core"\nexport default new alien.Stack(id + tag).build()`, "name.ts": `export const id: string = "s"`, "tag.ts": `export const tag: string = "t"` }],
  ["alien.ts with top-level await", { "alien.ts": `import * as alien from "@alienplatform/core"\nconst id: string = await Promise.resolve("s")\nexport default new alien.Stack(id).build()` }],
  ["alien.mts", { "alien.mts": TS }],
  ["alien.mjs", { "alien.mjs": ESM }],
  ["alien.js as an ES module", { "alien.js": ESM, "package.json": '{"type":"module"}' }],
  ["alien.js as CommonJS, module.exports = {default}", { "alien.js": `${CJS}module.exports = { default: ${BUILT} }` }],
  ["alien.js as CommonJS, exports.default", { "alien.js": `${CJS}exports.default = ${BUILT}` }],
  ["alien.js as CommonJS, module.exports = stack", { "alien.js": `${CJS}module.exports = ${BUILT}` }],
  ["a promise of a stack", { "alien.mjs": ESM.replace("export default ", "export default Promise.resolve(").replace(/\n$/, ")\n") }],
])("%s", async (_, files) => {
  expect(await preflight(files)).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("Ready for local.") })
})

test("the first of alien.ts, .mts, .js, .mjs is taken; --file names another", async () => {
  const files = { "alien.ts": TS, "alien.mjs": "throw new Error()", "deep/other.ts": TS.replace('"s"', '"other"') }
  expect((await preflight(files)).code).toBe(0)
  expect((await preflight(files, "--file", "deep/other.ts")).code).toBe(0)
  expect(await preflight(files, "-f", "nope.ts")).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/^error: there is no stack file .*nope\.ts\nhint: /) })
})

test.each([
  ["throws", "alien.ts", `const a: number = 1\n\nfunction late(): never {\n  throw new TypeError("no luck")\n}\nlate()\nexport default a`, /^error: alien\.ts throws TypeError: no luck\n  at alien\.ts:4:9\n$/],
  ["throws (.mjs)", "alien.mjs", `\n\nthrow new Error("no luck")`, /^error: alien\.mjs throws Error: no luck\n  at alien\.mjs:3:\d+\n$/],
  ["throws (.js)", "alien.js", `\nthrow new Error("no luck")`, /^error: alien\.js throws Error: no luck\n  at alien\.js:2:\d+\n$/],
  ["throws what is no error", "alien.mjs", `throw "a word"`, /^error: alien\.mjs throws a word\n/],
  ["has a syntax error (.ts)", "alien.ts", `const a = 1\nconst = 2\n`, /^error: alien\.ts cannot be read: .*\n  at alien\.ts:2:/],
  ["has a syntax error (.mjs)", "alien.mjs", `const a = 1\nconst = 2\n`, /^error: alien\.mjs cannot be read: .*\n  at alien\.mjs:2/],
  ["has a syntax error (.js)", "alien.js", `const a = 1\nconst = 2\n`, /^error: alien\.js cannot be read: .*\n  at alien\.js:2/],
  ["has no default export", "alien.ts", `export const stack = 1`, /^error: alien\.ts has no default export\nhint: end it with: export default new alien\.Stack/],
  ["is empty", "alien.js", ``, /^error: the default export of alien\.js is not a stack/],
  ["exports an unbuilt stack", "alien.ts", `import * as alien from "@alienplatform/core"\nexport default new alien.Stack("s")`, /^error: the default export of alien\.ts is a Stack that is not built\nhint: add \.build\(\) at its end/],
  ["exports an unbuilt daemon", "alien.ts", `import * as alien from "@alienplatform/core"\nexport default new alien.Daemon("s")`, /^error: the default export of alien\.ts is a Daemon, not a stack\n/],
  ["exports something else", "alien.ts", `export default 42`, /^error: the default export of alien\.ts is not a stack\n/],
  ["imports what is not there", "alien.ts", `import x from "./nope"\nexport default x`, /^error: alien\.ts throws .*Cannot find module .*nope/],
  ["is refused by a builder", "alien.ts", `import * as alien from "@alienplatform/core"\n\nexport default new alien.Daemon("a b")\n  .build()`, /^error: Daemon "a b" is invalid \(\d problems\):\n(  .*\n)+  at alien\.ts:\d:/],
])("one that %s: exit code 1, with the file and line", async (_, name, text, message) => {
  const { code, stdout, stderr } = await preflight({ [name]: text })
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
  expect(stderr).toMatch(message)
  // The same in JSON, for machines.
  const json = await preflight({ [name]: text }, "--json")
  expect(JSON.parse(json.stdout)).toMatchObject({ error: { code: expect.any(String), message: expect.any(String) } })
})

/** The deployment that a command in a folder looks for, and does not find; what was made of the stack file is kept in `home`. */
async function named(dir, home) {
  const { stderr } = await bed.cli(["status"], { cwd: dir, env: { XDG_CACHE_HOME: home } })
  return stderr.match(/"(\w+)"/)?.[1] ?? stderr
}

test.each([
  ["that imports the package alone", TS, /\.json$/],
  ["that imports its neighbours", `import "./beside"\n${TS}`, /\.mjs$/],
])("what is made of a TypeScript file %s is kept for the next call, where nobody else can write", async (_, text, entry) => {
  const dir = folder({ "alien.ts": text, "beside.ts": "export {}" })
  const home = path.join(dir, "cache")
  expect(await named(dir, home)).toBe("s")
  const kept = path.join(home, "alien/stacks")
  expect(fs.statSync(kept).mode & 0o777).toBe(0o700)
  for (const file of fs.readdirSync(kept).filter((name) => entry.test(name)).map((name) => path.join(kept, name))) {
    const before = fs.readFileSync(file, "utf8")
    // Of an entry that holds its source as well, the code: it comes last.
    const [from, to] = file.endsWith(".json") ? ['Stack(\\"s\\")', 'Stack(\\"kept\\")'] : ['Stack("s")', 'Stack("kept")']
    const at = before.lastIndexOf(from)
    if (at >= 0) fs.writeFileSync(file, before.slice(0, at) + to + before.slice(at + from.length))
  }
  expect(await named(dir, home)).toBe("kept")
  fs.chmodSync(kept, 0o777)
  expect(await named(dir, home)).toBe("s")
  fs.chmodSync(kept, 0o700)
  fs.writeFileSync(path.join(dir, "alien.ts"), text.replace('Stack("s")', 'Stack("changed")'))
  expect(await named(dir, home)).toBe("changed")
})

test("what a kept stack file takes from elsewhere is taken anew at each call, and its errors keep their places", async () => {
  const home = path.join(bed.folder, "kept")
  const beside = folder({ "alien.ts": `import { id } from "./name"\nimport * as alien from "@alienplatform/core"\nexport default new alien.Stack(id).build()`, "name.ts": `export const id: string = "one"` })
  const kept = path.join(home, "alien/stacks")
  const entries = () => fs.readdirSync(kept).filter((name) => name.endsWith(".json")).map((name) => fs.statSync(path.join(kept, name)).ino)
  expect(await named(beside, home)).toBe("one")
  const [made] = entries()
  fs.writeFileSync(path.join(beside, "name.ts"), `export const id: string = "two"`)
  expect(await named(beside, home)).toBe("two")
  // It was compiled once to find out that it cannot be kept.
  expect([made, entries()]).toEqual([expect.any(Number), [made]])
  const reads = folder({ "alien.ts": `import { readFileSync } from "node:fs"\nimport path from "node:path"\nimport alien, { Stack } from "@alienplatform/core"\nconst id: string = readFileSync(path.join(__dirname, "name"), "utf8")\nif (id === "bad" || Stack !== alien.Stack) throw new Error("no luck")\nexport default new alien.Stack(id).build()`, name: "one" })
  expect(await named(reads, home)).toBe("one")
  fs.writeFileSync(path.join(reads, "name"), "two")
  expect(await named(reads, home)).toBe("two")
  fs.writeFileSync(path.join(reads, "name"), "bad")
  expect(await named(reads, home)).toMatch(/^error: alien\.ts throws Error: no luck\n  at alien\.ts:5:\d+\n$/)
})

test("leaves nothing beside the file", async () => {
  const dir = folder({ "alien.ts": TS })
  await bed.cli(["preflight"], { cwd: dir })
  expect(fs.readdirSync(dir)).toEqual(["alien.ts"])
  expect(fs.existsSync(bed.stateDir)).toBe(false)
})
