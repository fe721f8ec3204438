// The same things as require() gives. A plain import, which bundlers follow: daemons are often one file.
import commands from "./index.js"

export const { CommandError, CommandReceiver, CommandsClient, command, createCommandReceiver, runReceiver } = commands
