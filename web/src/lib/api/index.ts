export * from './types';
export * from './errors';
export { ApiClient } from './client';
export { followAnswer, type AnswerObserver } from './follow';
