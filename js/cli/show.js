"use strict"

// How results and progress look to a person.

const { paint } = require("./paint.js")

const MARKS = { passed: ["green", "✓"], warning: ["yellow", "!"], failed: ["red", "✗"], skipped: ["dim", "-"] }

/** Checks, but for those that say nothing here. */
function checks(all) {
  const out = process.stdout
  for (const check of all.filter(({ status }) => status !== "skipped")) {
    const [style, mark] = MARKS[check.status]
    out.write(`${paint(out, style, mark)} ${check.description}\n`)
    writeIssues(out, check)
  }
}

function preflight(report) {
  const out = process.stdout
  checks(report.checks)
  const failed = report.checks.filter(({ status }) => status === "failed").length
  out.write(report.ok ? `Ready for ${report.platform}.\n` : `Not ready for ${report.platform}: ${failed} ${failed === 1 ? "check" : "checks"} failed.\n`)
}

function writeIssues(out, check) {
  for (const issue of check.issues) {
    out.write(`    ${issue.message}\n`)
    if (issue.hint) out.write(`    ${paint(out, "cyan", "hint:")} ${issue.hint}\n`)
  }
}

const SIGNS = { create: ["green", "+"], update: ["yellow", "~"], restart: ["yellow", "↻"], delete: ["red", "-"], none: ["dim", "="] }

/** The changes; with `brief`, without those that are none and without the fields of what is new. */
function plan(result, out, { brief = false } = {}) {
  const changes = result.changes.filter(({ action }) => !brief || action !== "none")
  for (const change of changes) {
    const [style, sign] = SIGNS[change.action]
    out.write(`${paint(out, style, sign)} ${change.type} ${change.id}: ${change.action} (${change.reason})\n`)
    if (brief && change.action === "create") continue
    for (const field of change.fields) {
      const from = field.from === null ? "" : `${JSON.stringify(field.from)} → `
      const to = field.to === null ? "(none)" : JSON.stringify(field.to)
      out.write(`    ${field.path}: ${from}${to}\n`)
    }
  }
  if (result.changes.every(({ action }) => action === "none")) out.write("No changes.\n")
}

const mebibytes = (bytes) => `${(bytes / 1048576).toFixed(1)} MiB`

/** Follows a deploy's events: plain lines, and on a terminal a last line that is rewritten while bytes arrive. */
function progress() {
  const out = process.stderr
  const live = out.isTTY && process.env.TERM !== "dumb"
  const quarters = new Map()
  const said = new Map()
  let open = false
  let nothing = false
  const close = () => {
    if (open) out.write("\r\x1b[K")
    open = false
  }
  const say = (text) => {
    close()
    out.write(`${text}\n`)
  }
  const image = ({ id, image, phase, bytes, totalBytes, message, digest }) => {
    if (message) say(`${id}: ${message}`)
    if (phase === "downloading" && totalBytes > 0) {
      const text = `${id}: fetching ${image}: ${mebibytes(bytes)} of ${mebibytes(totalBytes)}`
      if (live) {
        out.write(`\r\x1b[K${text}`)
        open = true
      } else {
        // In a log file every quarter is enough.
        const quarter = Math.floor((bytes / totalBytes) * 4)
        if (quarter > (quarters.get(id) ?? -1)) say(text)
        quarters.set(id, quarter)
      }
    }
    if (phase === "ready") say(`${id}: image ready (${digest.slice(0, 19)}…)`)
  }
  return {
    take(event) {
      switch (event.type) {
        case "preflight":
          close()
          event.report.checks.filter(({ status }) => status === "warning").forEach((check) => {
            check.issues.forEach((issue) => say(`${paint(out, "yellow", "warning:")} ${issue.message}${issue.hint ? ` (${issue.hint})` : ""}`))
          })
          break
        case "waiting":
          say(event.message)
          break
        case "plan":
          nothing = event.plan.changes.every(({ action }) => action === "none")
          if (!nothing) plan(event.plan, out, { brief: true })
          break
        case "image":
          image(event)
          break
        case "resource": {
          // A platform that watches may hear the same thing many times.
          const text = `${event.id}: ${event.state}${event.message ? ` (${event.message})` : ""}`
          if (said.get(event.id) !== text) say(text)
          said.set(event.id, text)
          break
        }
      }
    },
    end: close,
    summary(name) {
      say(nothing ? `No changes: "${name}" is as the stack says.` : `${paint(out, "green", "✓")} "${name}" is up.`)
    },
  }
}

/** Writes log lines to stdout, no faster than it takes them. */
function lines({ json, timestamps, names }) {
  const width = names === undefined ? 0 : Math.max(...names.map((name) => name.length))
  const out = process.stdout
  return (id, { time, stream, line, partial }) => {
    const prefix = `${names === undefined ? "" : `${id.padEnd(width)} | `}${timestamps ? `${time} ` : ""}`
    const text = json ? `${JSON.stringify({ id, time, stream, line, partial })}\n` : `${prefix}${line}${partial ? "" : "\n"}`
    return out.write(text) ? undefined : new Promise((resolve) => out.once("drain", resolve))
  }
}

module.exports = { checks, lines, plan, preflight, progress }
