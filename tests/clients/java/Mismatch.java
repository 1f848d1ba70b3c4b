/** The broker did something else than the test expects; the message says what and where. */
class Mismatch extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Mismatch(String message) {
        super(message);
    }

    static void require(boolean holds, String message) {
        if (!holds) {
            throw new Mismatch(message);
        }
    }

    static void equal(Object expected, Object actual, String what) {
        require(expected.equals(actual), what + ": expected " + expected + ", got " + actual);
    }
}
