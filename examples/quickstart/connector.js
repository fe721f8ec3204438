// The program in the quick start's image: it says what it sees, works, takes a command, and ends when it is told to.
const fs = require("node:fs")
const os = require("node:os")
const { command, runReceiver } = require("@alienplatform/core/commands")

const level = process.env.LOG_LEVEL
console.log(`connector ${process.version} started on ${os.hostname()} as pid ${process.pid}, log level ${level}`)
console.log(`my whole world: ${fs.readdirSync("/").join(" ")}`)
console.log(`my environment: ${Object.keys(process.env).sort().join(" ")}`)

let synced = 0
const timer = setInterval(() => console.log(`synced batch ${++synced}`), 1000)

command("sync", ({ since }) => {
  console.log(`asked to sync what is new since ${since}`)
  return { since, batches: synced }
})

function goodbye() {
  console.log(`finishing batch ${synced}, goodbye`)
  clearInterval(timer)
}

// Where there is a manager, the receiver takes commands until SIGTERM, and lets them finish.
if (process.env.ALIEN_COMMANDS_URL) runReceiver().then(goodbye)
else process.once("SIGTERM", goodbye)
