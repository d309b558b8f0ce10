/** Props of a mounted component that a test can change. */
export class LiveProps<P extends Record<string, unknown>> {
  props: P;

  constructor(start: P) {
    const props = $state(start);
    this.props = props;
  }
}
