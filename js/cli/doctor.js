"use strict"

// `alien doctor`: what is the matter, and what was done about it.

const { engineOptions } = require("./options.js")
const { paint } = require("./paint.js")
const show = require("./show.js")
const engine = require("../engine.js")

async function doctor({ options, signal }) {
  const dryRun = options["dry-run"] === true
  const checkup = await engine.doctor({ ...engineOptions(options, signal), dryRun })
  if (options.json) {
    console.log(JSON.stringify(checkup))
    return checkup.ok ? 0 : 1
  }
  show.checks(checkup.checks)
  for (const what of checkup.mended) console.log(`${paint(process.stdout, "yellow", dryRun ? "would mend:" : "mended:")} ${what}`)
  const count = (wanted) => checkup.checks.filter(({ status }) => status === wanted).length
  const [failed, warnings] = [count("failed"), count("warning")]
  if (failed > 0) console.log(`${failed} ${failed === 1 ? "check" : "checks"} failed.`)
  else console.log(warnings > 0 ? `Nothing is broken; ${warnings} ${warnings === 1 ? "warning" : "warnings"}.` : "All is well.")
  return checkup.ok ? 0 : 1
}

module.exports = { doctor }
