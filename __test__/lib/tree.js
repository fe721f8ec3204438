"use strict"

// The tree of a state directory, as processes: who is scanner, who is whose supervisor.

const fs = require("node:fs")
const path = require("node:path")

const parentOf = (pid) => Number(fs.readFileSync(`/proc/${pid}/status`, "utf8").match(/^PPid:\s*(\d+)/m)[1])

/** The letter of a process's state (proc_pid_stat(5)): `T` is stopped. */
const stateOf = (pid) => fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "")[0]

/**
 * @param {ReturnType<typeof import("./bed.js").testBed>} bed
 * @param {string} [stateDir] another one than the bed's
 */
function treeOf(bed, stateDir = bed.stateDir) {
  const helpers = () => bed.helpers().filter(({ command }) => command.includes(`${stateDir} `) || command.endsWith(stateDir))
  return {
    /** The scanner's pid; `undefined` where there is none. */
    scanner: () => helpers().find(({ command }) => / (scan|keep) /.test(command))?.pid,
    /** The supervisor that keeps a daemon; `undefined` where there is none. */
    supervisor(deployment, id) {
      const dir = path.join(stateDir, "deployments", deployment, "daemons", id)
      // Its init, and what it has just forked, have the same command line, and it for a parent.
      const all = helpers().filter(({ command }) => command.includes(` run ${stateDir} ${dir}`)).map(({ pid }) => pid)
      return all.find((pid) => !all.includes(parentOf(pid)))
    },
  }
}

module.exports = { parentOf, stateOf, treeOf }
