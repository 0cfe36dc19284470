// The other file of the C++ program: its functions are called from the first one, and inlined there with LTO.
#include "wide.h"

#include <algorithm>
#include <deque>
#include <list>
#include <string>
#include <vector>

namespace {
class Matrix {
public:
    explicit Matrix(std::size_t n) : n_(n), cells_(n * n, 1.0) {}
    double &operator()(std::size_t row, std::size_t column) { return cells_[row * n_ + column]; }
    Matrix operator*(const Matrix &other) const;
    double trace() const;

private:
    std::size_t n_;
    std::vector<double> cells_;
};

Matrix Matrix::operator*(const Matrix &other) const
{
    Matrix result(n_);
    for (std::size_t i = 0; i < n_; i++)
        for (std::size_t j = 0; j < n_; j++) {
            double sum = 0;
            for (std::size_t k = 0; k < n_; k++)
                sum += cells_[i * n_ + k] * other.cells_[k * n_ + j];
            result(i, j) = sum;
        }
    return result;
}

double Matrix::trace() const
{
    double sum = 0;
    for (std::size_t i = 0; i < n_; i++)
        sum += cells_[i * n_ + i];
    return sum;
}
} // namespace

namespace wide {
long other_hash(const char *text)
{
    return static_cast<long>(Box<std::uint32_t>::of(hashed(text)).plus(hashed("other")));
}

static int queued(std::deque<int> &queue, std::list<int> &list)
{
    int sum = 0;
    while (!queue.empty()) {
        sum += queue.front();
        list.push_back(sum);
        queue.pop_front();
    }
    list.sort([](int a, int b) { return a % 7 < b % 7; });
    return list.empty() ? sum : list.front();
}

int other_main(int n)
{
    std::deque<int> queue;
    std::list<int> list;
    std::vector<std::string> names;
    Matrix matrix(static_cast<std::size_t>(n + 1));

    for (int i = 0; i < n; i++) {
        queue.push_back(Box<int>::of(i).plus(n));
        names.push_back(std::string(static_cast<std::size_t>(i), 'x'));
    }
    std::stable_sort(names.begin(), names.end(), [](const std::string &a, const std::string &b) { return a.size() > b.size(); });
    return queued(queue, list) + static_cast<int>((matrix * matrix).trace()) + static_cast<int>(names.size());
}
} // namespace wide
