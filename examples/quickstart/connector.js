// The program in the quick start's image: it says what it sees, works, and ends when it is told to.
const fs = require("node:fs")
const os = require("node:os")

const level = process.env.LOG_LEVEL
console.log(`connector ${process.version} started on ${os.hostname()} as pid ${process.pid}, log level ${level}`)
console.log(`my whole world: ${fs.readdirSync("/").join(" ")}`)
console.log(`my environment: ${Object.keys(process.env).sort().join(" ")}`)

let synced = 0
const timer = setInterval(() => console.log(`synced batch ${++synced}`), 1000)

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    console.log(`${signal}: finishing batch ${synced}, goodbye`)
    clearInterval(timer)
    process.exit(0)
  })
}
