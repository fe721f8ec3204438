// What the tests check the manager's description of its calls with: schemathesis, from PyPI, in a folder of its own that
// outlives clones.
//
//   node tools/schemathesis.cjs        installs it, and prints where its program is; needs python3 with venv

"use strict"

const { spawnSync } = require("node:child_process")
const { existsSync, mkdirSync, rmSync } = require("node:fs")
const { join } = require("node:path")
const { cacheDir } = require("./lib/cache.cjs")

const VERSION = "4.32.5"

const folder = join(cacheDir(), `schemathesis-${VERSION}`)

/** Where its program is, whether it is there or not. */
const program = join(folder, "bin", "schemathesis")

function install() {
  // Its programs name the folder that they were installed into, so that cannot be moved: a mark says that it is half-made.
  const mark = `${folder}.part`
  if (existsSync(program) && !existsSync(mark)) return
  mkdirSync(mark, { recursive: true })
  rmSync(folder, { recursive: true, force: true })
  for (const [command, ...args] of [["python3", "-m", "venv", folder], [join(folder, "bin", "pip"), "install", "--quiet", `schemathesis==${VERSION}`]]) {
    const { status, error } = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"] })
    if (status !== 0) {
      rmSync(folder, { recursive: true, force: true })
      console.error(`schemathesis cannot be installed: ${error?.message ?? `${command} ${args.join(" ")} failed`}`)
      process.exit(1)
    }
  }
  rmSync(mark, { recursive: true })
}

module.exports = { program }

if (require.main === module) {
  install()
  console.log(program)
}
