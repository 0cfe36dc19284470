int one(int n);

int main(int argc, char **)
{
    return one(argc);
}
