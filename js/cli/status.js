"use strict"

// How a deployment is, for a person: once, or again and again as it changes.

const { stripVTControlCharacters } = require("node:util")
const { paint } = require("./paint.js")
const table = require("./table.js")

const STATES = { running: "green", starting: "yellow", pending: "yellow", stopping: "yellow", "crash-looping": "red", failed: "red" }

/** Columns by title: what a resource has there. */
const COLUMNS = {
  ID: ({ id }) => id,
  TYPE: ({ type }) => type,
  STATE: ({ state }) => state,
  PID: ({ pid }) => pid,
  POD: ({ pod }) => pod,
  NODE: ({ node }) => node,
  UP: ({ startedAt }) => startedAt && since(startedAt),
  RESTARTS: ({ type, restarts }) => (type === "daemon" ? restarts : undefined),
  CPU: ({ usage, limits }) => part(usage && `${(usage.cpuCores * 100).toFixed(usage.cpuCores < 0.1 ? 1 : 0)}%`, limits?.cpuCores && `${limits.cpuCores * 100}%`),
  MEMORY: ({ usage, limits }) => part(usage && table.size(usage.memoryBytes), limits?.memoryBytes && table.size(limits.memoryBytes)),
  "LAST EXIT": ({ lastExit }) => lastExit && `${lastExit.oom ? "out of memory" : (lastExit.signal ?? `code ${lastExit.code}`)}, ${since(lastExit.at)} ago`,
  IMAGE: ({ image }) => image,
}

/** What is used, of what may be. */
const part = (used, most) => (most === undefined ? used : `${used ?? "-"} / ${most}`)

/** Whose processes have pods and nodes, have no number on this machine. */
function titles({ resources }) {
  const inPods = resources.some(({ pod, node }) => pod !== undefined || node !== undefined)
  const other = inPods ? ["PID"] : ["POD", "NODE"]
  return Object.keys(COLUMNS).filter((title) => !other.includes(title))
}

/** The table, line by line; what is wrong with a resource stands below it. */
function lines(status, out) {
  const header = titles(status)
  const rows = status.resources.map((resource) => header.map((title) => String(COLUMNS[title](resource) ?? "-")))
  const [first, ...others] = table.padded([header, ...rows])
  const shown = [`Deployment ${status.name} on ${status.platform}`, paint(out, "dim", table.line(first))]
  const at = header.indexOf("STATE")
  others.forEach((padded, index) => {
    const { state, conditions, events = [] } = status.resources[index]
    // Padded before it is painted: colours have no width.
    padded[at] = paint(out, STATES[state] ?? "dim", state) + padded[at].slice(state.length)
    shown.push(table.line(padded))
    for (const { message } of conditions.filter(isNews)) shown.push(`    ${message}`)
    for (const event of events) shown.push(paint(out, "dim", `    ${notice(event)}`))
  })
  return shown
}

/** Conditions that a person wants to read about: what is not as it should be. */
function isNews({ type, status, reason }) {
  return type === "Ready" ? status === "False" && !["Starting", "Pending", "Stopping"].includes(reason) : true
}

function notice({ reason, message, count, at }) {
  return `${reason}: ${message} (${count > 1 ? `${count} times, ` : ""}${since(at)} ago)`
}

/** `3m12s`: how long ago. */
function since(time) {
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(time)) / 1000))
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60]
  if (days > 0) return `${days}d${hours}h`
  if (hours > 0) return `${hours}h${minutes}m`
  return minutes > 0 ? `${minutes}m${seconds % 60}s` : `${seconds}s`
}

function show(status) {
  const out = process.stdout
  out.write(`${lines(status, out).join("\n")}\n`)
}

/**
 * Shows one status after another: in one place on a terminal, where times and usage go on too, else one below the other.
 *
 * @param {() => Promise<object>} measure a status with usage
 */
function live(measure) {
  const out = process.stdout
  if (!out.isTTY || process.env.TERM === "dumb") {
    let first = true
    return {
      show(status) {
        if (!first) out.write("\n")
        first = false
        show(status)
      },
      end() {},
    }
  }
  let drawn = []
  let last
  const draw = () => {
    if (last === undefined) return
    const { columns = 80, rows = 24 } = out
    // A terminal that has become narrower has broken what was drawn into more of its rows.
    const height = drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(stripVTControlCharacters(line).length / columns)), 0)
    drawn = fit(lines(last, out), columns, rows, out)
    out.write(`${height > 0 ? `\x1b[${height}A` : ""}\r\x1b[J${drawn.join("\n")}\n`)
  }
  let measuring = false
  const clock = setInterval(async () => {
    draw()
    if (measuring || last === undefined) return
    measuring = true
    // Where it cannot be had, the next status says why.
    const measured = await measure().catch(() => undefined)
    measuring = false
    for (const resource of last.resources) resource.usage = measured?.resources.find(({ id, pid }) => id === resource.id && pid === resource.pid)?.usage
  }, 1000)
  out.on("resize", draw)
  return {
    show(status) {
      last = status
      draw()
    },
    end() {
      clearInterval(clock)
      out.off("resize", draw)
    },
  }
}

/** As much as a terminal can show at once: what has left it at the top cannot be drawn over. */
function fit(all, columns, rows, out) {
  const room = Math.max(2, rows - 1)
  const hidden = all.length - (room - 1)
  const shown = all.length <= room ? all : [...all.slice(0, room - 1), paint(out, "dim", `… ${hidden} more lines than this terminal has room for`)]
  return shown.map((line) => cut(line, columns))
}

/** The beginning of a line, as many characters as fit; colours have no width, and end with it. */
function cut(line, columns) {
  if (stripVTControlCharacters(line).length <= columns) return line
  let width = 0
  const kept = line.match(/\x1b\[[\d;]*m|[^]/gu).filter((piece) => piece.startsWith("\x1b") || ++width < columns)
  return `${kept.join("")}…`
}

module.exports = { live, show }
