/** The conformance cases on the engine's own device file as a program, for its answers. */
import { Answers } from './answers.ts';
import { deviceConformance } from './device-conformance.ts';
import { byGroup, real } from './engine-subject.ts';
import { answersLine } from './standalone/results.ts';
import { runCases } from './standalone/vitest.ts';

const answers = new Answers();
deviceConformance(
  'engine',
  answers.of(() => byGroup(real())),
);
await runCases();
console.log(answersLine(answers.cases));
