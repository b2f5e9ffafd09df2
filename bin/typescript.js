// Loads TypeScript in this process and in the workers that it starts: `node --import ./bin/typescript.js file.ts`. The command begins with it.
import { register } from 'node:module';

process.setSourceMapsEnabled(true);
register('./typescript-hooks.js', import.meta.url);
