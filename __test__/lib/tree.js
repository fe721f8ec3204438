"use strict"

// The tree of a state directory, as processes: who is scanner, who is whose supervisor. They hold locks as long as they
// live, and the kernel says who does (proc_locks(5)).

const fs = require("node:fs")
const path = require("node:path")

const parentOf = (pid) => Number(fs.readFileSync(`/proc/${pid}/status`, "utf8").match(/^PPid:\s*(\d+)/m)[1])

/** The letter of a process's state (proc_pid_stat(5)): `T` is stopped. */
const stateOf = (pid) => fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "")[0]

/** Who holds a file's record lock; `undefined` where nobody does. */
function holderOf(file) {
  const found = fs.statSync(file, { throwIfNoEntry: false })
  if (found === undefined) return undefined
  const lock = fs.readFileSync("/proc/locks", "utf8").split("\n").find((line) => line.includes("POSIX") && line.includes(`:${found.ino} `))
  return lock && Number(lock.trim().split(/\s+/)[4])
}

/** The folders of a daemon's control group, by the file in its folder that its supervisor notes them in; none where it has none. */
function groupsOf(daemon) {
  try {
    const { v1, v2 } = JSON.parse(fs.readFileSync(path.join(daemon, "cgroup.json"), "utf8"))
    return [...v1.map(([, dir]) => dir), ...(v2 === null ? [] : [v2])]
  } catch (error) {
    if (error.code === "ENOENT") return []
    throw error
  }
}

/**
 * @param {ReturnType<typeof import("./bed.js").testBed>} bed
 * @param {string} [stateDir] another one than the bed's
 */
function treeOf(bed, stateDir = bed.stateDir) {
  return {
    /** The scanner's pid; `undefined` where there is none. */
    scanner: () => holderOf(path.join(stateDir, "scan.lock")),
    /** The pid of the supervisor that keeps a daemon; `undefined` where there is none. */
    supervisor: (deployment, id) => holderOf(path.join(stateDir, "deployments", deployment, "daemons", id, "lock")),
  }
}

module.exports = { groupsOf, holderOf, parentOf, stateOf, treeOf }
