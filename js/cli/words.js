"use strict"

// Commands that have commands of their own: `alien token create`.

const { UsageError } = require("./args.js")

/**
 * Which one is meant, with its words and nothing else.
 *
 * @param {string} command the first word of all
 * @param {Record<string, {words?: string[], options?: string[]}>} known by name: what must follow, and which of the
 *   command's own options it takes
 * @param {string[]} all the options of the command that only some take
 */
function choose(command, known, all, words, options) {
  const [name, ...rest] = words
  const names = Object.keys(known)
  if (name === undefined) throw new UsageError(`${command} needs one of ${names.join(", ")}`)
  if (!names.includes(name)) throw new UsageError(`there is no \`alien ${command} ${name}\`; there is ${names.join(", ")}`)
  const { words: wanted = [], options: taken = [] } = known[name]
  if (rest.length < wanted.length) {
    throw new UsageError(`${command} ${name} needs ${wanted.slice(rest.length).join(" and ")}: alien ${command} ${[name, ...wanted].join(" ")}`)
  }
  if (rest.length > wanted.length) throw new UsageError(`${command} ${name} takes no ${JSON.stringify(rest[wanted.length])}`)
  const foreign = all.find((option) => options[option] !== undefined && !taken.includes(option))
  if (foreign !== undefined) throw new UsageError(`${command} ${name} takes no --${foreign}`)
  return { name, words: rest }
}

module.exports = { choose }
