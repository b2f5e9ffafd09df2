/** Results of cases that ran outside of vitest. */
import { type AnswersOfCases, type Difference, differences } from '../answers.ts';

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

/**
 * The differences of a bundle's output from answers of the engine. Cases that were skipped are left
 * out.
 */
export function comparedWith(engine: AnswersOfCases, output: string): Difference[] {
  const skipped = caseResults(output)
    .filter(({ outcome }) => outcome === 'skipped')
    .map(({ title }) => title.split(' > ').slice(1).join(' > '));
  const common = Object.entries(engine).filter(([title]) => !skipped.includes(title));
  return differences(Object.fromEntries(common), answersIn(output));
}

/** The line that a bundle of cases prints for the answers that its device gave. */
export function answersLine(cases: AnswersOfCases): string {
  return JSON.stringify({ answers: cases });
}

/** The answers in what a bundle of cases printed. @throws Error when it came to no end */
export function answersIn(output: string): AnswersOfCases {
  const line = output.split('\n').find((each) => each.startsWith('{"answers":'));
  if (line === undefined) throw new Error(`the program printed no answers:\n${output.slice(-2000)}`);
  return (JSON.parse(line) as { answers: AnswersOfCases }).answers;
}
