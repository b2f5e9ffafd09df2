/** Results of cases that ran outside of vitest. */

export interface CaseResult {
  readonly title: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** The reason of a failure or a skip. */
  readonly why?: string;
}

/** The results in what a bundle of cases printed. Lines that are no results are left out. */
export function caseResults(output: string): CaseResult[] {
  return output
    .split('\n')
    .filter((line) => line.startsWith('{"title":'))
    .map((line) => JSON.parse(line) as CaseResult);
}
