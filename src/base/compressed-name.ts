/** Names of compressed files: a command line is checked by them before a compression is loaded. */

/** Endings that say a compression. */
export const compressedEndings = ['.gz', '.zst'] as const;
export type CompressedEnding = (typeof compressedEndings)[number];

/** The ending that says a compression; null: none. */
export function compressedEnding(path: string): CompressedEnding | null {
  return compressedEndings.find((ending) => path.endsWith(ending)) ?? null;
}

/** The name without the ending of a compression: `run.jsonl` of `run.jsonl.gz`. */
export function withoutCompression(path: string): string {
  return path.slice(0, path.length - (compressedEnding(path)?.length ?? 0));
}
