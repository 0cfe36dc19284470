/** Burns in fib and in churn, both compiled after a while. Ends with its standard input. */
public class Hot {
    static long fib(int n) {
        return n < 2 ? n : fib(n - 1) + fib(n - 2);
    }

    static long churn(java.util.Map<String, Integer> map) {
        long sum = 0;
        for (int i = 0; i < 1000; i++) {
            map.merge("k" + i % 50, i, Integer::sum);
            sum += map.size();
        }
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        java.util.Map<String, Integer> map = new java.util.HashMap<>();
        System.out.println("ready");
        for (long sum = 0; System.in.available() == 0; ) {
            sum += fib(22);
            sum += churn(map);
            if (sum == 42) System.out.println(sum);
        }
    }
}
