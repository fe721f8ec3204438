"use strict"

// Node 22 and 24 beside the one that runs the tests: the addon loads, every kind of stack file is read, a daemon runs.

const fs = require("node:fs")
const path = require("node:path")
const { spawnSync } = require("node:child_process")
const { root, testBed } = require("./lib/bed.js")

const bed = testBed()
const BUILT = (image) => `new alien.Stack("s").add(new alien.Daemon("d").code({ type: "image", image: "${image}" }).command(["/bin/daemon", "ready"]).permissions("p").build(), "live").build()`
const FILES = {
  "alien.ts": (stack) => `import * as alien from "@alienplatform/core"\nenum E { A = 1 }\nexport default ${stack}`,
  "alien.mts": (stack) => `import * as alien from "@alienplatform/core"\nconst stack: object = ${stack}\nexport default stack`,
  "alien.js": (stack) => `const alien = require("@alienplatform/core")\nmodule.exports = { default: ${stack} }`,
  "alien.mjs": (stack) => `import * as alien from "@alienplatform/core"\nexport default ${stack}`,
}

describe.each(["node22", "node24"])("%s", (version) => {
  const node = path.join(root, "node_modules", version, "bin", "node")
  const run = (cwd, ...args) => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, ALIEN_STATE_DIR: bed.stateDir }
    const { status, stdout, stderr } = spawnSync(node, args, { cwd, env, encoding: "utf8", timeout: 20_000 })
    return { status, stdout, stderr }
  }
  const folder = (name, image) => {
    const dir = path.join(bed.folder, `${version}-${name}`)
    fs.mkdirSync(dir)
    fs.writeFileSync(path.join(dir, name), FILES[name](BUILT(image)))
    return dir
  }

  test.each(Object.keys(FILES))("reads %s", (name) => {
    const result = run(folder(name, "nginx"), path.join(root, "js/cli.js"), "preflight")
    expect(result).toEqual({ status: 0, stdout: expect.stringContaining("Ready for local."), stderr: "" })
  })

  test("deploys and destroys", async () => {
    fs.rmSync(path.join(bed.folder, `${version}-alien.ts`), { recursive: true })
    const dir = folder("alien.ts", await bed.image())
    const cli = path.join(root, "js/cli.js")
    expect(run(dir, cli, "deploy")).toMatchObject({ status: 0, stderr: expect.stringContaining('"s" is up') })
    expect(JSON.parse(run(dir, cli, "status", "--json").stdout).resources[0].state).toBe("running")
    expect(run(dir, cli, "destroy")).toMatchObject({ status: 0 })
  })
})
