/** An error as lines for people. */
import { VfioError } from '../base/errno.ts';
import { textOf } from '../base/foreign.ts';
import { printableLines } from '../base/printable.ts';
import { fromNode } from '../sys/system-error.ts';

/**
 * An error as a command prints it, by lines. It has a stack only when it is unforeseen: a bug of
 * ours, or of code that a user gave.
 */
export function failureLines(error: unknown): string[] {
  const told = fromNode(error);
  return told instanceof VfioError ? told.explain().split('\n') : printableLines(textOf(error));
}
