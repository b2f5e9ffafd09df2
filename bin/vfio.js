#!/usr/bin/env node
// The command. Sources are TypeScript with erasable types, so that a user's own device.ts or driver.ts can be given as it is.
import './typescript.js';

const { main } = await import('../src/app/cli/main.ts');
process.exitCode = await main(process.argv.slice(2));
