// Writes a line into the shared storage, again and again, and finds it by its binding.
const { appendFileSync } = require("node:fs")

const { storagePath } = JSON.parse(process.env.ALIEN_FILES_BINDING)
let number = 0
const timer = setInterval(() => {
  appendFileSync(new URL("numbers", storagePath), `${++number}\n`)
  if (number === 1) console.log("writing")
}, 50)

process.on("SIGTERM", () => clearInterval(timer))
