/** Arguments of node that make it load TypeScript as the command does. */
export const typescript: readonly string[] = ['--import', new URL('../../bin/typescript.js', import.meta.url).href];
