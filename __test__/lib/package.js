"use strict"

// The package as somebody else has it installed, perhaps in another version: a folder of its own, used by a process of its own.

const fs = require("node:fs")
const path = require("node:path")
const { execFile } = require("node:child_process")
const { root } = require("./bed.js")

const FILES = ["package.json", "index.js", "js", "alien.linux-x64-gnu.node", "alien-supervisor", "alien-manager"]

/**
 * Installs the package in `folder`, with its helper as `edit` makes it: a digest of its own makes it another version.
 *
 * @param {(bytes: Buffer) => Buffer} [edit]
 */
function installed(folder, edit = (bytes) => bytes) {
  const core = path.join(folder, "node_modules/@alienplatform/core")
  fs.mkdirSync(core, { recursive: true })
  for (const file of FILES) fs.cpSync(path.join(root, file), path.join(core, file), { recursive: true })
  const helper = path.join(core, "alien-supervisor")
  fs.writeFileSync(helper, edit(fs.readFileSync(helper)))
  /** Runs the body of an async function of `alien` there, and gives what it returns. */
  const run = (body) => new Promise((resolve, reject) => {
    const code = `
      const alien = require("@alienplatform/core")
      const told = (value) => process.stdout.write(JSON.stringify(value ?? null))
      ;(async () => { ${body} })().then((value) => told({ value }), (error) => told({ error: { code: error.code, message: error.message, hint: error.hint } }))`
    execFile(process.execPath, ["-e", code], { cwd: folder, timeout: 20_000 }, (error, stdout, stderr) => {
      if (error) return reject(new Error(`${error.message}\n${stderr}`))
      const answer = JSON.parse(stdout)
      return answer.error ? reject(Object.assign(new Error(answer.error.message), answer.error)) : resolve(answer.value)
    })
  })
  return { core, run }
}

module.exports = { installed }
