#!/usr/bin/env node
// The command: JavaScript that `npm run build` made of src/. It loads a user's own device.ts or
// driver.ts as it is, and loads a loader of TypeScript only then.
const { main } = await import('../dist/cli.js').catch((error) => {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' || !error.message.includes('/dist/cli.js')) throw error;
  console.error('vfio: dist/ is not built: run "npm run build" in the package');
  process.exit(1);
});
process.exitCode = await main(process.argv.slice(2));
